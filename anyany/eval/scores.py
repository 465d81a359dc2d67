"""How a model is asked, and how right and wrong answers are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anyany.model import Model, Reply

Score = dict[str, Any]
BATCH = 256
MAX_LIVE = 64


@dataclass(frozen=True)
class Ask:
    """Puts prompts to a model, a batch at a time; prompt i has the seed ``seed + i``.

    Attributes:
        model: Is asked.
        seed: Of the first prompt.
        options: Of generation, over those that a task passes.
    """

    model: Model
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, prompts: Sequence[Any], **options: Any) -> list[Reply]:
        """Replies to all prompts.

        Raises:
            AnyanyError: That of the first request that failed.
        """
        out: list[Reply] = []
        for start in range(0, len(prompts), BATCH):
            out += self.batch(prompts[start : start + BATCH], start, errors="raise", **options)
        return out

    def batch(self, prompts: Sequence[Any], start: int, **options: Any) -> list[Any]:
        """Replies to at most ``BATCH`` prompts, the first of which has the number ``start``."""
        given = {"max_live": MAX_LIVE, **options, **self.options}
        return self.model.generate_batch(prompts, seed=self.seed + start, **given)


@dataclass(frozen=True)
class Measured:
    """A task of the core that is no set of items: it asks and judges in its own way.

    Attributes:
        score: Takes who is asked, and the most items; gives at least ``metric``, ``value``, ``n``, ``baseline`` and
            ``judge``.
    """

    score: Callable[[Ask, int], Score]


def measured(score: Callable[[Ask, int], Score]) -> Callable[[], Measured]:
    """Makes a task of a function."""

    @wraps(score)
    def factory() -> Measured:
        return Measured(score)

    return factory


def share(right: Sequence[bool]) -> float:
    """Of those that are right."""
    return float(np.mean(right)) if len(right) else 0.0


def accuracy(right: Sequence[bool], *, baseline: str, judge: str) -> Score:
    """A score of right and wrong answers."""
    return {
        "metric": "accuracy", "value": round(share(right), 4), "n": len(right), "baseline": baseline, "judge": judge
    }  # fmt: skip
