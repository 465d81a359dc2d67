"""``anyany train``: run a recipe in a folder, and go on where an earlier run of it was cut off."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anyany.cli.output import print_json, print_table

if TYPE_CHECKING:
    from anyany.training.distributed import World
    from anyany.training.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``anyany train``."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a TOML file")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="such as steps=100 or rates.backbone=1e-4")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: runs/<name>)")


def run(args: argparse.Namespace) -> int:
    """Run ``anyany train``."""
    from anyany.training.distributed import joined
    from anyany.training.recipe import read_recipe

    recipe = read_recipe(args.recipe, args.changes)
    folder = args.out if args.out is not None else Path("runs") / recipe.name
    # A recipe names factories, which may lie beside the user; last on the path, they hide nothing installed.
    sys.path.append(os.getcwd())
    with joined() as world:
        return _train(recipe, folder, world)


def _train(recipe: Recipe, folder: Path, world: World) -> int:
    """Every rank trains, and rank 0 tells of it."""
    from anyany.training.ledger import COLUMNS, rows
    from anyany.training.loop import Run

    if world.first:
        print_json(recipe.to_json())
    training = Run(recipe, folder, world=world)
    training.resume()
    entries = training.entries()
    if world.first:
        print_table(COLUMNS, rows(entries))
    training.run()
    entries = training.entries()
    if world.first:
        print_table(COLUMNS, rows(entries))
    if training.stopped:
        print(f"stopped at step {training.step}; the same command goes on from there", file=sys.stderr)
        return 1
    for kind in ("model", "adapter"):
        if world.first and (folder / kind).is_dir():
            print(f"{kind}: {folder / kind}")
    return 0
