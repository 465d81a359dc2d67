"""Prompts: one part, a list of parts, or chat messages."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from anyany.errors import MediaError, PromptError
from anyany.parts.base import Media

ROLES = ("system", "user", "assistant")
MAX_MESSAGES = 1000


@dataclass(frozen=True)
class Message:
    """What one side said.

    ``chat``: it is a turn of a conversation, which a model's chat template frames; a prompt that was given as parts is
    plain text, from which the reply carries on.
    """

    role: str
    parts: tuple[str | Media, ...]
    chat: bool = True


def as_messages(prompt: Any) -> tuple[Message, ...]:
    """Bring a prompt into messages.

    Args:
        prompt: A string, a media part, a list of these (one user message), or chat messages in the
            Hugging Face form: ``[{"role": "user", "content": "..." or [{"type": "text", "text": "..."}]}]``.
            Media stand under the name of their type (``image`` may be a Pillow picture), as a file under
            ``path``, as its content under ``bytes``, or as text under ``base64`` or a ``data:`` URL. A series may
            be given as numbers under ``values`` ``(T,)`` or ``(T, C)``, where ``None`` is missing, with ``columns``
            and ``frequency``. Nothing is fetched.

    Raises:
        PromptError: It is none of these; the message names the part.
        MediaError: A file is damaged, too large, empty, or of a format that is not read.
    """
    if isinstance(prompt, str | Media):
        return (Message("user", (prompt,), chat=False),)
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes):
        if isinstance(prompt, PathLike) or _is_pillow(prompt):
            _part("prompt", prompt)  # says how to open or wrap it
        raise PromptError(f"prompt: expected a part, a list of parts or chat messages, got {type(prompt).__name__}")
    if not prompt:
        raise PromptError("prompt: expected at least one part, got an empty list")
    if all(isinstance(item, Message | Mapping) for item in prompt):
        if len(prompt) > MAX_MESSAGES:
            raise PromptError(f"prompt: at most {MAX_MESSAGES} messages, got {len(prompt)}")
        return tuple(_message(index, item) for index, item in enumerate(prompt))
    return (Message("user", tuple(_part(f"part {i}", item) for i, item in enumerate(prompt)), chat=False),)


def _message(index: int, item: Message | Mapping[str, Any]) -> Message:
    role, content = (item.role, item.parts) if isinstance(item, Message) else (item.get("role"), item.get("content"))
    chat = not isinstance(item, Message) or item.chat
    if not isinstance(role, str) or role not in ROLES:
        raise PromptError(f"message {index}: expected a role among {', '.join(ROLES)}, got {role!r}")
    if isinstance(content, str | Media):
        return Message(str(role), (content,), chat)
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise PromptError(f"message {index}: expected content as text or a list, got {type(content).__name__}")
    parts = tuple(_part(f"message {index}, part {i}", part) for i, part in enumerate(content))
    return Message(str(role), parts, chat)


def _part(name: str, item: Any) -> str | Media:
    """A part, or a chat part: ``{"type": T, ...}`` with the media under ``T``, or ``path``, ``base64`` or ``url``."""
    if isinstance(item, str | Media):
        return item
    if isinstance(item, Mapping):
        return _chat_part(name, item)
    if isinstance(item, PathLike):
        raise PromptError(f"{name}: expected a string or media, got a path; open it, e.g. Image.open(path)")
    if _is_pillow(item):
        raise PromptError(f"{name}: expected a string or media, got a Pillow picture; wrap it: Image.from_pil(x)")
    raise PromptError(
        f"{name}: expected a string or media, got {type(item).__name__}; wrap arrays, e.g. Image.from_array(x)"
    )


def _chat_part(name: str, item: Mapping[str, Any]) -> str | Media:
    kind = str(item.get("type"))
    value, media = item.get(kind), _standard().get(kind)
    if isinstance(value, Media) or (kind == "text" and isinstance(value, str)):
        return value
    try:
        if media is not None:
            if kind == "image" and _is_pillow(value):
                return media.from_pil(value)  # type: ignore[attr-defined]
            if isinstance(item.get("bytes"), bytes):
                return media.from_bytes(item["bytes"])
            if isinstance(item.get("path"), str | PathLike):
                return media.open(item["path"])
            if kind == "timeseries" and isinstance(item.get("values"), Sequence):
                return media.from_values(  # type: ignore[attr-defined]
                    item["values"], columns=item.get("columns") or (), frequency=item.get("frequency")
                )
            for key in ("base64", "url"):
                if isinstance(item.get(key), str) and (key == "base64" or item[key][:5] == "data:"):
                    from anyany.media.embedded import from_base64

                    return media.from_bytes(from_base64(kind, item[key]))
    except MediaError as error:
        raise type(error)(f"{name}: {error}", code=error.code) from None
    if isinstance(item.get("url"), str):
        raise PromptError(f"{name}: nothing is fetched from a URL; download it, and give its file as 'path'")
    raise PromptError(
        f"{name}: expected a 'type' among text, {', '.join(_standard())}, with media under that name, "
        f"or a file as 'path', 'bytes' or 'base64'; got type {item.get('type')!r:.40} with "
        f"{', '.join(map(str, item))[:80]}"
    )


def _is_pillow(value: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")  # where nobody has imported it, nothing is one
    return pillow is not None and isinstance(value, pillow.Image)


def _standard() -> dict[str, type[Media]]:
    from anyany import parts

    return {m.modality: m for m in (parts.Image, parts.Audio, parts.Video, parts.TimeSeries, parts.Motion)}
