"""``anyany bench``: speed and memory against a peer or a limit, measured side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anyany.cli.output import print_json, print_table

if TYPE_CHECKING:
    from anyany.bench.growth import Growth
    from anyany.bench.measure import Figure
    from anyany.errors import AnyanyError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``anyany bench``."""
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="only these lines of the table")
    parser.add_argument("--quick", action="store_true", help="three rounds in place of nine")
    parser.add_argument("--gpu", action="store_true", help="the lines that need a GPU, in place of the others")
    parser.add_argument("--growth", action="store_true", help="how time grows with size, beside the law")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write DATE-DEVICE-COMMIT.json and .svg there, such as docs/benchmarks"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run ``anyany bench``; a goal that is missed is told, and no failure of the command."""
    from anyany.bench.suite import QUICK, ROUNDS, measure

    rounds = QUICK if args.quick else ROUNDS
    if args.growth:
        return _growth(rounds, as_json=args.json, out=args.out)
    figures = []
    for figure in measure(args.only, gpu=args.gpu, quick=args.quick, left_out=_left_out):
        figures.append(figure)
        print(f"{figure.id}: {figure.ratio:.3g} {figure.unit}", file=sys.stderr, flush=True)
    _keep(args.out, figures, rounds)
    if args.json:
        print_json([figure.to_json() for figure in figures])
        return 0
    columns = ("id", "what", "median", "quartiles", "peer", "goal", "status")
    print_table(columns, [_row(figure) for figure in figures])
    return 0


def _left_out(name: str, error: AnyanyError) -> None:
    print(f"{name}: left out: {error}", file=sys.stderr, flush=True)


def _keep(folder: Path | None, measured: Sequence[Figure] | Sequence[Growth], rounds: int) -> None:
    if folder is None:
        return
    from anyany.bench.record import write

    for file in write(folder, measured, rounds=rounds):
        print(file, file=sys.stderr)


def _growth(rounds: int, *, as_json: bool, out: Path | None) -> int:
    from anyany.bench.growth import grow

    found = []
    for growth in grow(rounds):
        found.append(growth)
        print(f"{growth.id}: slope {growth.slope:.3g}", file=sys.stderr, flush=True)
    _keep(out, found, rounds)
    if as_json:
        print_json([growth.to_json() for growth in found])
        return 0
    rows = [
        (
            growth.id, growth.what, " ".join(f"{size:.3g}: {spent:.3g}" for size, spent in growth.points),
            f"{growth.slope:.3g}", f"{growth.law[0]:g} to {growth.law[1]:g}", "ok" if growth.held else "missed",
        )
        for growth in found
    ]  # fmt: skip
    print_table(("id", "what", "sizes and seconds", "slope", "law", "status"), rows)
    return 0


def _row(figure: Figure) -> tuple[str, ...]:
    low, _, high = figure.quartiles
    goal, status = (
        ("", "note") if figure.goal is None else (f">= {figure.goal:g}", "ok" if figure.reached else "missed")
    )
    spread = f"{low:.3g} to {high:.3g}"
    return figure.id, figure.what, f"{figure.ratio:.3g} {figure.unit}", spread, figure.peer, goal, status
