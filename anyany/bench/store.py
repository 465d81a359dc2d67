"""Encoding once: steps that train a projector, with features from a store against running the encoder in each."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from anyany.bench import vit
from anyany.bench.measure import Figure, speedup
from anyany.errors import AnyanyError
from anyany.parts import Message
from anyany.training.loop import Run
from anyany.training.packing import GROUP
from anyany.training.recipe import make_recipe

PICTURES, BATCH = 4, 2
TOLERANCE = 1e-3
GOALS = {"mini": 5.0, "10m": None}
"""By size of the backbone, whose passes no store takes away: before a larger one there is less to gain."""


class Captions:
    """Pictures, each with the same words, so that every batch has as many rows."""

    def __init__(self) -> None:
        self.pictures = [vit.Picture.random(index) for index in range(PICTURES)]

    def __len__(self) -> int:
        return PICTURES

    def sample(self, index: int, draw: Any) -> list[Message]:
        """A picture, and what it shows."""
        return [Message("user", (self.pictures[index],)), Message("assistant", ("a picture of something",))]


def align_in(size: str, rounds: int) -> Figure:
    """A step of the stage that fits an encoder to a backbone: both frozen, the projector trains.

    Args:
        size: Of the backbone: a key of ``GOALS``.
        rounds: How often.

    Raises:
        AnyanyError: The two runs do not learn the same, or the store was not read.
    """
    with tempfile.TemporaryDirectory() as folder:
        stored, encoding = (_run(Path(folder), name, size) for name in ("stored", "encoding"))
        try:
            read, steps = 0.0, 0
            while (
                read < 1
            ):  # the store is filled; every picture comes once in so many steps that are dealt out together
                values = stored.one_step()
                _same(values, encoding.one_step())
                read, steps = values["stored"], steps + 1
                if steps > GROUP:
                    raise AnyanyError(
                        f"store-align-in-{size}: after {steps} steps {read:.2f} of the features were read"
                    )
            found = speedup(stored.one_step, encoding.one_step, rounds)
        finally:
            for run in (stored, encoding):
                run.batches.close()
    numbers = dict(stored.model.summary())
    return Figure(
        id=f"store-align-in-{size}",
        what=f"steps per second, a projector trains, {BATCH} pictures of {vit.ROWS} rows; frozen: encoder "
        f"{numbers['encoder/bench/vit'] / 1e6:.0f} M, backbone {numbers['backbone'] / 1e6:.1f} M",
        quartiles=found,
        peer="the encoder in every step",
        goal=GOALS[size],
    )


def _run(folder: Path, name: str, size: str) -> Run:
    """A run of its own; only the one called ``stored`` has a store."""
    model = vit.model(size)
    document = model.planner.plan(Captions().sample(0, None), train=True)
    recipe = make_recipe(
        {
            "name": name, "model": "built here", "rates": {"projector/": 1e-3}, "steps": 1000,
            "sources": {"captions": {"factory": "anyany.bench.store:Captions"}}, "rows": BATCH * document.rows,
            "precision": "float32", "store": str(folder / "store") if name == "stored" else None,
        }
    )  # fmt: skip
    run = Run(recipe, folder / name, model)
    run.model.train()
    return run


def _same(ours: dict[str, float], theirs: dict[str, float]) -> None:
    if not abs(ours["loss"] - theirs["loss"]) < TOLERANCE:
        raise AnyanyError(
            f"store-align-in: the runs learn otherwise, so that speed says nothing: losses {ours['loss']:.6g} "
            f"and {theirs['loss']:.6g}"
        )
