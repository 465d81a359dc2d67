"""``anyany demo``: see what the model that ships can do."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("--model", default="mini", help="'mini' or a checkpoint folder")
    parser.add_argument("--out", type=Path, default=Path("out"), help="where the parts and report.html go")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")


def run(args: argparse.Namespace) -> int:
    """Hold the conversations."""
    from anyany.demo.run import run as demo
    from anyany.model import load

    demo(load(args.model), args.out, seed=args.seed)
    return 0
