"""How answers are collected and counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anyany.model import Model, Reply

Score = dict[str, Any]
BATCH = 256


def replies(model: Model, prompts: Sequence[Any], **options: Any) -> list[Reply]:
    """Answers to all prompts, a batch at a time; prompt i has the seed i."""
    out: list[Reply] = []
    for start in range(0, len(prompts), BATCH):
        out += model.generate_batch(prompts[start : start + BATCH], seed=start, max_live=64, **options)
    return out


def share(right: Sequence[bool]) -> float:
    """Of those that are right."""
    return float(np.mean(right)) if len(right) else 0.0


def accuracy(right: Sequence[bool], *, baseline: str, judge: str) -> Score:
    """A score of right and wrong answers."""
    return {
        "metric": "accuracy", "value": round(share(right), 4), "n": len(right), "baseline": baseline, "judge": judge
    }  # fmt: skip


def rouge_l(candidate: str, references: Sequence[str]) -> float:
    """ROUGE-L (Lin 2004), F1 over words, against the best of the references."""
    return max(_overlap(candidate.lower().split(), r.lower().split()) for r in references)


def _overlap(a: list[str], b: list[str]) -> float:
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    common = int(table[-1, -1])
    return 0.0 if common == 0 else 2 * common / (len(a) + len(b))
