"""The chat template of a Hugging Face directory: where it lies, and the tokens that it may name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyany.errors import CheckpointError
from anyany.model.checkpoint import TEMPLATE, read_json, read_text
from anyany.model.template import ChatTemplate

OLDER, TOKENIZER, SPECIAL = "chat_template.json", "tokenizer_config.json", "special_tokens_map.json"


def read_template(folder: Path, *, several: bool) -> ChatTemplate | None:
    """The chat template, or ``None``.

    Args:
        folder: It lies in ``chat_template.jinja``, in ``chat_template.json`` as older processors wrote it, or in
            ``tokenizer_config.json``; the first that is there counts, as for transformers.
        several: The model takes more than text, so that its template belongs to a processor.

    Raises:
        CheckpointError: It is no template, or one of several without a default.
    """
    files = {name: read_json(folder / name) for name in (OLDER, TOKENIZER, SPECIAL) if (folder / name).exists()}
    source: Any = read_text(folder / TEMPLATE) if (folder / TEMPLATE).exists() else None
    for name in (OLDER, TOKENIZER):
        source = files.get(name, {}).get("chat_template") if source is None else source
    if isinstance(source, list):  # several by name
        named = {each.get("name"): each.get("template") for each in source if isinstance(each, Mapping)}
        source = named.get("default", source)
    if source is None:
        return None
    if not isinstance(source, str):
        raise CheckpointError(
            f"{TOKENIZER}: chat_template must be a text, or several by name with one 'default', got {source!r:.60}"
        )
    tokens = _tokens({**files.get(SPECIAL, {}), **files.get(TOKENIZER, {})})
    template = ChatTemplate(source=source, tokens=tokens, begin=several, listed=several)
    template.check()
    return template


def _tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Named tokens; some files have the settings of each beside its text."""
    found = {}
    for key, value in config.items():
        content = value.get("content") if isinstance(value, Mapping) else value
        if key.endswith("_token") and isinstance(content, str):
            found[key] = content
    return found
