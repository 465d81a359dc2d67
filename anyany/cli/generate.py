"""``anyany generate``: one prompt of text and media files; text is printed as it comes, media become files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyany.cli.output import print_json
from anyany.cli.prompt import SUFFIXES, read_part

if TYPE_CHECKING:
    from anyany.engine import Event
    from anyany.parts import Media


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``anyany generate``."""
    add = parser.add_argument
    add(
        "parts", nargs="+", metavar="PART",
        help=f"text, or a file that ends in {', '.join(SUFFIXES)}; text:... is text in any case",
    )  # fmt: skip
    add("--model", default="mini", metavar="M", help="a checkpoint directory; the embedded model by default")
    add("--want", type=_words, metavar="A,B", help="the exact modalities of the reply, in order: text,image")
    add("--allow", type=_words, metavar="A,B", help="modalities among which the model may choose")
    add("--out", type=Path, default=Path("out"), metavar="DIR", help="folder for media of the reply (default: out)")
    add("--seed", type=int, default=0, help="seed of every draw (default: 0)")
    add("--max-new-tokens", type=int, metavar="N", help="budget of each text part")
    add("--temperature", type=float, metavar="T", help="0 takes the most probable")
    add("--json", action="store_true", help="print one JSON document when the reply is complete")


def run(args: argparse.Namespace) -> int:
    """Run ``anyany generate``."""
    prompt = [read_part(word) for word in args.parts]
    from anyany.model import load

    model = load(args.model)
    options = {name: getattr(args, name) for name in ("want", "allow", "max_new_tokens", "temperature")}
    events = model.stream(prompt, seed=args.seed, **{k: v for k, v in options.items() if v is not None})
    reply = _follow(events, args.out, live=not args.json)
    if args.json:
        print_json(reply)
    return 0


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
