"""``anyany eval``: figures of a model, on your own data or task by task."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from anyany.errors import RequestError

if TYPE_CHECKING:
    from anyany.eval.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    add = parser.add_argument
    add("model", nargs="?", default="mini", help="'mini' or a checkpoint folder")
    add("--adapter", metavar="DIR", help="an adapter of that checkpoint")
    add("--weights", choices=("int8", "int4"), help="decode with weights in small integers")
    add("--data", metavar="FILE", help="conversations as JSONL; the last message of each is the reference")
    add("--task", action="append", default=[], metavar="ID", help="only this task; may be repeated")
    add("--metric", action="append", default=[], metavar="ID", help="with this metric; may be repeated")
    add("--limit", type=int, default=100_000, help="most items of a task")
    add("--seed", type=int, default=0, help="seed of the first item (default: 0)")
    add("--temperature", type=float, metavar="X", help="0 takes the most probable; that of the model by default")
    add("--max-new-tokens", type=int, metavar="N", help="budget of each text part")
    add("--list", action="store_true", help="tasks and metrics that there are, and nothing else")
    add("--json", action="store_true", help="one JSON object by task id")


def run(args: argparse.Namespace) -> int:
    """Measure, and print; 1 where no item of a task could be measured."""
    if args.list:
        return _list()
    if args.data and args.task:
        raise RequestError("eval: --data is a task of its own; leave out --task")
    from anyany.eval.own import conversations
    from anyany.eval.run import Evaluation
    from anyany.model import load

    own = conversations(args.data) if args.data else None
    given = {"temperature": args.temperature, "max_new_tokens": args.max_new_tokens}
    options = {name: value for name, value in given.items() if value is not None}
    model = load(args.model, adapter=args.adapter, weights=args.weights)
    evaluation = Evaluation(model, seed=args.seed, options=options)
    if own is not None:
        results = iter([evaluation.task(args.data, own, metrics=args.metric, limit=args.limit)])
    else:
        results = evaluation.run(args.task, metrics=args.metric, limit=args.limit)
    done = {}
    for result in results:
        done[result.task] = result
        for line in _lines(result):
            print(line, file=sys.stderr if args.json else sys.stdout, flush=True)
    if args.json:
        print(json.dumps({name: result.to_json() for name, result in done.items()}, indent=1))
    return int(any(result.value is None for result in done.values()))


def _lines(result: Result) -> list[str]:
    """The figure, those of other metrics and of cells below it, and the first failure."""
    value = "none" if result.value is None else round(result.value, 4)
    lines = [f"{result.task:26} {result.metric:16} {value:<8} n {result.n:<6} {result.baseline}"]
    for name, figure in list(result.figures.items())[1:]:
        value = "none" if figure.value is None else round(figure.value, 4)
        lines.append(f"{'':26} {name:16} {value:<8} n {figure.n}")
    for name, cell in result.more.get("cells", {}).items():
        kind = "trained" if cell["trained"] else "never paired"
        lines.append(f"{'':26} {name:16} {cell['value']:<8} n {cell['n']:<6} {kind}")
    if result.failures:
        first = result.failures[0]
        lines.append(f"{'':26} {result.failed} items failed; item {first.item}: {first.error}")
    return lines


def _list() -> int:
    from anyany.cli.output import print_table
    from anyany.eval.standard import METRICS, TASKS
    from anyany.plugin.registry import registry

    print_table(("task", "what"), [(s.id, s.description) for s in (*TASKS, *registry().tasks)])
    print()
    rows = [
        (s.id, s.modality, "higher" if s.higher_is_better else "lower", s.description)
        for s in (*METRICS, *registry().metrics)
    ]  # fmt: skip
    print_table(("metric", "compares", "better", "what"), rows)
    return 0
