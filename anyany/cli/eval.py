"""``anyany eval``: figures of a model, task by task."""

from __future__ import annotations

import argparse
import json
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("model", nargs="?", default="mini", help="'mini' or a checkpoint folder")
    parser.add_argument("--adapter", metavar="DIR", help="an adapter of that checkpoint")
    parser.add_argument("--task", action="append", default=[], metavar="ID", help="only this task; may be repeated")
    parser.add_argument("--limit", type=int, default=100_000, help="most items of a task")
    parser.add_argument("--json", action="store_true", help="one JSON object by task id")


def run(args: argparse.Namespace) -> int:
    """Judge, and print."""
    from anyany.eval.run import evaluate
    from anyany.model import load

    scores = {}
    for name, score in evaluate(load(args.model, adapter=args.adapter), args.task, args.limit):
        scores[name] = score
        line = f"{name:26} {score['metric']:12} {score['value']:<8} n {score['n']:<6} {score['baseline']}"
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)
    if args.json:
        print(json.dumps(scores, indent=1))
    return 0
