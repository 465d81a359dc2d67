"""``anyany generate``: one prompt of text and media files; text is printed as it comes, media become files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyany.cli.output import print_json
from anyany.cli.prompt import read_part
from anyany.errors import RequestError
from anyany.parts.suffixes import SUFFIXES

if TYPE_CHECKING:
    from anyany.engine import Event
    from anyany.parts import Media


NUMBERS: tuple[tuple[str, type[int | float], str], ...] = (
    ("temperature", float, "0 takes the most probable; image=0.8 is for pictures alone"),
    ("top_p", float, "draw from the most probable that add up to this"),
    ("guidance", float, "how much stronger media follow the prompt: 2, or image=3"),
)
"""Options of sampling that are one number, or one for each modality."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``anyany generate``."""
    add = parser.add_argument
    add(
        "parts", nargs="+", metavar="PART",
        help=f"text, or a file that ends in {', '.join(SUFFIXES)}; text:... is text in any case",
    )  # fmt: skip
    add("--model", default="mini", metavar="M", help="a checkpoint directory; the embedded model by default")
    add("--adapter", metavar="DIR", help="an adapter of that checkpoint")
    add("--want", type=_words, metavar="A,B", help="the exact modalities of the reply, in order: text,image")
    add("--allow", type=_words, metavar="A,B", help="modalities among which the model may choose")
    add("--out", type=Path, default=Path("out"), metavar="DIR", help="folder for media of the reply (default: out)")
    add("--seed", type=int, default=0, help="seed of every draw (default: 0)")
    add("--max-new-tokens", type=int, metavar="N", help="budget of each text part")
    for name, kind, text in NUMBERS:
        add(f"--{name.replace('_', '-')}", type=_number(kind), action="append", metavar="[M=]X", help=text)
    add("--budget", type=_number(int), action="append", metavar="M=ROWS", help="most rows of a span of a modality")
    add("--stop", action="append", metavar="TEXT", help="ends the reply; may be repeated")
    add("--json", action="store_true", help="print one JSON document when the reply is complete")


def run(args: argparse.Namespace) -> int:
    """Run ``anyany generate``."""
    prompt = [read_part(word) for word in args.parts]
    from anyany.model import load

    model = load(args.model, adapter=args.adapter)
    options = {name: getattr(args, name) for name in ("want", "allow", "max_new_tokens", "stop")}
    for name, *_ in NUMBERS:
        options[name] = _values(f"--{name.replace('_', '-')}", getattr(args, name))
    options["budgets"] = _values("--budget", args.budget)
    events = model.stream(prompt, seed=args.seed, **options)
    reply = _follow(events, args.out, live=not args.json)
    if args.json:
        print_json(reply)
    return 0


def _number(kind: type[int | float]) -> Callable[[str], tuple[str, int | float]]:
    """Reads ``image=0.8``, or ``0.8`` with an empty name."""

    def number(text: str) -> tuple[str, int | float]:
        name, equals, value = text.rpartition("=")
        if equals and not name:
            raise ValueError(text)
        return name, kind(value)

    return number


def _values(option: str, given: list[tuple[str, int | float]] | None) -> Any:
    """One number, or a mapping from modality to number; ``None`` where nothing was given.

    Raises:
        RequestError: Both at once.
    """
    values = dict(given or ())
    if "" in values and len(values) > 1:
        raise RequestError(f"{option}: give one number, or a number for each modality ({option} image=0.8), not both")
    return values.get("", values or None)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _follow(events: Iterable[Event], folder: Path, *, live: bool) -> dict[str, Any]:
    """Print (when ``live``) and save what comes; returns the reply as JSON."""
    from anyany.engine import Done, SpanEnd, TextDelta

    reply: dict[str, Any] = {"parts": []}
    for event in events:
        if isinstance(event, TextDelta) and live:
            print(event.text, end="", flush=True)
        elif isinstance(event, SpanEnd):
            part = _part(event, folder)
            reply["parts"].append(part)
            if live:
                print(_line(part))
        elif isinstance(event, Done):
            reply |= {"finish": event.finish, "usage": asdict(event.usage)}
    return reply


def _part(event: Any, folder: Path) -> dict[str, Any]:
    ended = {"finish": event.finish, "logprob": event.logprob}
    if isinstance(event.content, str):
        return {"modality": "text", "text": event.content, **ended}
    return {"modality": event.content.modality, "file": _save(event.content, folder, event.part), **ended}


def _line(part: dict[str, Any]) -> str:
    """What ends a part on the terminal: the text is already there."""
    return f"[{part['modality']}] {part['file'] or 'not saved: it has no file format'}" if "file" in part else ""


def _save(media: Media, folder: Path, index: int) -> str | None:
    """The file that holds a part, or ``None`` for media without a file format."""
    if not media.formats:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    return str(media.save(folder / f"{index}-{media.modality}.{media.formats[0]}"))
