"""Samples as data: what JSONL, parquet, shards and data sets have in common.

A sample is an object with one of these keys, parts in the form of chat messages::

    {"messages": [{"role": "user", "content": [{"type": "image", "path": "cat.png"}, "What is this?"]},
                  {"role": "assistant", "content": "A cat."}]}
    {"pair": [{"type": "image", "path": "cat.png"}, "a cat"]}
    {"part": {"type": "audio", "path": "purr.wav"}}

for the tasks ``sequence``, ``bind`` and ``codec``. A part that is an object names its media by ``path``, or holds
them as ``bytes``, ``base64`` or ``values``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyany.errors import AnyanyError, DataError
from anyany.parts.messages import as_messages

KEYS = ("messages", "pair", "part")
Place = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Brings a part with a ``path`` into one that can be opened, or that holds its bytes."""


def make_sample(item: Any, place: Place) -> Any:
    """A list of messages, a pair of parts, or one part.

    Args:
        item: The object.
        place: Called with each part that has a ``path``.

    Raises:
        AnyanyError: It is no such object, or its media cannot be opened.
    """
    keys = [key for key in KEYS if isinstance(item, Mapping) and key in item]
    if len(keys) != 1 or len(item) != 1:
        found = ", ".join(map(str, item)) if isinstance(item, Mapping) else type(item).__name__
        raise DataError(f"expected an object with one of the keys {', '.join(KEYS)}, got {found:.80}")
    value = item[keys[0]]
    if keys[0] == "messages":
        return list(as_messages([{**m, "content": _placed(m.get("content"), place)} for m in _objects(value)]))
    content = _placed([value] if keys[0] == "part" else value, place)
    (message,) = as_messages([{"role": "user", "content": content}])
    if keys[0] == "part":
        return message.parts[0]
    if len(message.parts) != 2:
        raise DataError(f"expected two parts in a pair, got {len(message.parts)}")
    return message.parts


def _placed(content: Any, place: Place) -> Any:
    if not isinstance(content, list):
        return content
    return [place(p) if isinstance(p, Mapping) and isinstance(p.get("path"), str) else p for p in content]


def _objects(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(item, Mapping) for item in value):
        raise DataError("expected a list of messages, each an object with 'role' and 'content'")
    return value


def within(folder: Path) -> Place:
    """Paths are relative to a folder."""
    return lambda part: {**part, "path": str(folder / part["path"])}


@contextmanager
def named(where: str) -> Iterator[None]:
    """Whatever is wrong with a sample is told with the place it came from, as a ``DataError``."""
    try:
        yield
    except AnyanyError as error:
        raise DataError(f"{where}: {error}") from error


def parsed(text: str | bytes, what: str) -> Any:
    """JSON -> object.

    Raises:
        DataError: It is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not {what} of JSON: {error}") from error
