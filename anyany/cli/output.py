"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyany.parts import Media

STYLES = {"ok": "green", "note": "yellow", "blocked": "yellow", "expected": "yellow", "skipped": "yellow"}
"""Colour of a status; any other is a fault, and red."""


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=1))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout; cells of a column named ``status`` are coloured.

    Args:
        columns: Headings.
        rows: Cells as plain text: brackets in a reason are not markup.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=False)
    for row in rows:
        styles = [STYLES.get(cell, "red") if name == "status" else "" for name, cell in zip(columns, row, strict=True)]
        table.add_row(*(Text(cell, style=style) for cell, style in zip(row, styles, strict=True)))
    Console().print(table)


def part_to_json(content: str | Media, folder: Path, name: str, finish: str, logprob: float | None) -> dict[str, Any]:
    """A part of a reply as JSON; media become ``<name>-<modality>.<format>`` in a folder, where they have a format."""
    ended = {"finish": finish, "logprob": logprob}
    if isinstance(content, str):
        return {"modality": "text", "text": content, **ended}
    file = None
    if content.formats:
        folder.mkdir(parents=True, exist_ok=True)
        file = str(content.save(folder / f"{name}-{content.modality}.{content.formats[0]}"))
    return {"modality": content.modality, "file": file, **ended}
