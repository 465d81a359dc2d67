"""``anyany generate``: one prompt of text and media files; text is printed as it comes, media become files.

With ``--dataset``, the prompts of a file instead (``anyany.cli.answers``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyany.cli.output import part_to_json, print_json
from anyany.cli.prompt import read_part
from anyany.errors import RequestError
from anyany.parts.suffixes import SUFFIXES

if TYPE_CHECKING:
    from anyany.engine import Event


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
        "parts", nargs="*", metavar="PART",
        help=f"text, or a file that ends in {', '.join(SUFFIXES)}; text:... is text in any case",
    )  # fmt: skip
    add("--model", default="mini", metavar="M", help="a checkpoint directory; the embedded model by default")
    add("--adapter", metavar="DIR", help="an adapter of that checkpoint")
    add("--weights", choices=("int8", "int4"), help="decode with weights in small integers")
    add("--want", type=_words, metavar="A,B", help="the exact modalities of the reply, in order: text,image")
    add("--allow", type=_words, metavar="A,B", help="modalities among which the model may choose")
    add("--dataset", type=Path, metavar="FILE", help="a JSONL file of prompts, in place of words")
    add("--out", type=Path, metavar="PATH", help="folder for media (default: out); with --dataset the file of answers")
    add("--ray", type=int, default=0, metavar="N", help="with --dataset: N workers of Ray share the lines")
    add("--seed", type=int, default=0, help="seed of every draw (default: 0)")
    add("--max-new-tokens", type=int, metavar="N", help="budget of each text part")
    for name, kind, text in NUMBERS:
        add(f"--{name.replace('_', '-')}", type=_number(kind), action="append", metavar="[M=]X", help=text)
    add("--budget", type=_number(int), action="append", metavar="M=ROWS", help="most rows of a span of a modality")
    add("--stop", action="append", metavar="TEXT", help="ends the reply; may be repeated")
    add("--json", action="store_true", help="print one JSON document when the reply is complete")


def run(args: argparse.Namespace) -> int:
    """Run ``anyany generate``."""
    if wrong := _wrong(args):
        print(f"anyany generate: error: {wrong}", file=sys.stderr)
        return 2
    prompt = [read_part(word) for word in args.parts]
    from anyany.model import load

    make = partial(load, args.model, adapter=args.adapter, weights=args.weights)
    options = {name: getattr(args, name) for name in ("want", "allow", "max_new_tokens", "stop")}
    for name, *_ in NUMBERS:
        options[name] = _values(f"--{name.replace('_', '-')}", getattr(args, name))
    options["budgets"] = _values("--budget", args.budget)
    if args.dataset is not None:
        from anyany.cli.answers import answer

        answer(make, args.dataset, args.out, seed=args.seed, options=options, workers=args.ray)
        return 0
    events = make().stream(prompt, seed=args.seed, **options)
    reply = _follow(events, args.out or Path("out"), live=not args.json)
    if args.json:
        print_json(reply)
    return 0


def _wrong(args: argparse.Namespace) -> str:
    """What is wrong with the usage: a prompt is made of words, or a data set holds the prompts."""
    if args.dataset is None:
        if args.ray:
            return "--ray N shares the lines of --dataset FILE among N workers"
        return "" if args.parts else "expected a prompt of at least one PART, or --dataset FILE"
    if args.ray < 0:
        return f"--ray expects at least one worker, got {args.ray}"
    if args.parts or args.json or args.out is None:
        return "--dataset FILE needs --out FILE for the answers, and takes neither a PART of a prompt nor --json"
    if not args.out.suffix:
        return f"--out {args.out}: answers go into a file such as {args.out}.jsonl, their media into {args.out}"
    return ""


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
            part = part_to_json(event.content, folder, str(event.part), event.finish, event.logprob)
            reply["parts"].append(part)
            if live:
                print(_line(part))
        elif isinstance(event, Done):
            reply |= {"finish": event.finish, "usage": asdict(event.usage)}
    return reply


def _line(part: dict[str, Any]) -> str:
    """What ends a part on the terminal: the text is already there."""
    return f"[{part['modality']}] {part['file'] or 'not saved: it has no file format'}" if "file" in part else ""
