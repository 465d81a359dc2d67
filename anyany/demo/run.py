"""Runs the conversations, prints them as they happen, and writes what was made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from anyany.demo import report
from anyany.demo.conversations import Conversation, conversations
from anyany.demo.inputs import gather
from anyany.engine import Chunk, Done, Event, SpanEnd, SpanStart, TextDelta
from anyany.model import Reply
from anyany.parts import Media

if TYPE_CHECKING:
    from anyany.model import Model

SUFFIXES = {"image": "png", "audio": "wav", "video": "mp4", "timeseries": "csv", "motion": "glb"}


def run(model: Model, out: Path, *, seed: int = 0) -> list[Reply]:
    """Hold all conversations and write ``out/`` with every part as a file, and ``out/report.html``.

    Args:
        model: Takes and emits the five standard modalities.
        out: Folder; made where it does not exist.
        seed: Of all draws.
    """
    console, began = Console(highlight=False), time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    inputs = gather(model)
    done: list[tuple[Conversation, Reply]] = []
    for number, conversation in enumerate(conversations(inputs), start=1):
        console.print(f"\n[bold]{number}. {conversation.title}[/bold]")
        for part in conversation.prompt:
            console.print(f"   [blue]> {part if isinstance(part, str) else repr(part)}[/blue]", markup=True)
        events = _shown(model.stream(list(conversation.prompt), seed=seed + number, **conversation.options), console)
        reply = Reply.collect(events)
        done.append((conversation, reply))
        _save(out, number, "in", conversation.prompt)
        _save(out, number, "out", reply.parts)
    seconds = time.perf_counter() - began
    report.write(out / "report.html", done, inputs.origins, seconds)
    console.print(f"\n{len(done)} conversations in {seconds:.1f} s. Every part is a file in {out}/")
    console.print(f"Look at [bold]{out / 'report.html'}[/bold]")
    return [reply for _, reply in done]


def _shown(events: Iterator[Event], console: Console) -> Iterator[Event]:
    """Print events as they pass."""
    for event in events:
        if isinstance(event, SpanStart) and event.modality == "text":
            console.print("   ", end="")
        elif isinstance(event, TextDelta):
            console.print(event.text, end="", markup=False)
        elif isinstance(event, Chunk):
            console.print(f"   ... {event.media!r}", style="dim")
        elif isinstance(event, SpanEnd):
            console.print("" if isinstance(event.content, str) else f"   {event.content!r}", markup=False)
        elif isinstance(event, Done):
            rows = sum(event.usage.rows.values())
            console.print(f"   {rows} rows in {event.usage.seconds:.2f} s", style="dim")
        yield event


def _save(out: Path, number: int, side: str, parts: tuple[str | Media, ...]) -> None:
    for index, part in enumerate(parts):
        name = f"{number:02}-{side}-{index}"
        if isinstance(part, str):
            (out / f"{name}.txt").write_text(part + "\n", encoding="utf-8")
        else:
            part.save(out / f"{name}.{SUFFIXES[part.modality]}")
