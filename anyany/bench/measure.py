"""How everything here is measured: turn by turn, so that a machine that slows down slows both sides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Quartiles = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table.

    Attributes:
        id: As ``--only`` takes it.
        what: What was measured.
        quartiles: Lower quartile, median, upper quartile over the rounds; larger is better.
        peer: What it is compared with.
        goal: The median should reach it; ``None`` for a property of the machine.
        unit: ``x`` is a ratio.
    """

    id: str
    what: str
    quartiles: Quartiles
    peer: str
    goal: float | None = None
    unit: str = "x"

    @property
    def ratio(self) -> float:
        """The median."""
        return self.quartiles[1]

    @property
    def reached(self) -> bool:
        """Whether the goal is reached; nothing to reach counts as reached."""
        return self.goal is None or self.ratio >= self.goal

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "quartiles": list(self.quartiles), "ratio": self.ratio}


def quartiles(values: Sequence[float]) -> Quartiles:
    """Lower quartile, median and upper quartile."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return low, middle, high


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def rounds_of(calls: Sequence[Callable[[], object]], rounds: int) -> list[tuple[float, ...]]:
    """Seconds of each call in each round; each is called once before, unmeasured.

    Args:
        calls: In turn, in this order.
        rounds: How often.
    """
    for call in calls:
        call()
    return [tuple(seconds(call) for call in calls) for _ in range(rounds)]


def speedup(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> Quartiles:
    """How many times faster ours is: quartiles of the ratio of each round."""
    return quartiles([slow / fast for fast, slow in rounds_of((ours, theirs), rounds)])
