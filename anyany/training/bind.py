"""Binding: parts that belong together come to lie together in the language model's embedding space.

InfoNCE over pairs of parts of any modalities (CLIP, arXiv 2103.00020; ImageBind, arXiv 2305.05665, where all
modalities meet in one). A part is the mean of its rows as they enter the backbone, so that encoders and projectors
learn what a word already means before the backbone has to read them.

Shapes: N pairs of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anyany.errors import DataError, RecipeError
from anyany.model import Model
from anyany.model.document import Document, Planner
from anyany.model.vectors import cosines, own, vectors
from anyany.parts import Media
from anyany.parts.messages import Message
from anyany.training.data import Stream
from anyany.training.packing import Batches, counted
from anyany.training.recipe import Recipe

TEMPERATURE = 0.07
Kind = tuple[str, str]
Pair = tuple[str | Media, str | Media]


@dataclass(frozen=True)
class Paired:
    """Makes a pair and the document of each of its sides."""

    planner: Planner

    def __call__(self, source: str, pair: Any) -> tuple[Pair, list[Document]]:
        """Plan a pair.

        Raises:
            DataError: It is no pair of parts, or one of them is empty.
        """
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(p, str | Media) for p in pair):
            raise DataError(f"source {source!r}: the bind task takes pairs of parts, got {type(pair).__name__}")
        documents = [self.planner.plan([Message("user", (part,), chat=False)]) for part in pair]
        if any(own(document) is None for document in documents):
            raise DataError(f"source {source!r}: a part of a pair is empty; leave it out")
        return pair, documents


class Bind:
    """Pairs of parts; those of one kind, such as image and text, contrast with each other."""

    def __init__(self, model: Model, recipe: Recipe) -> None:
        if recipe.rows < 2:
            raise RecipeError("recipe: the task bind contrasts pairs with each other; rows must be at least 2")
        self.model, self.rows = model, recipe.rows
        self.make = Paired(model.planner)

    def begin(self, stream: Stream[Any]) -> None:
        """Nothing to prepare."""

    def batches(self, stream: Stream[Any]) -> Batches[Any]:
        """``rows`` pairs."""
        return Batches(stream, partial(counted, count=self.rows), 1)

    def batch(
        self, items: Sequence[tuple[Pair, list[Document]]]
    ) -> dict[Kind, tuple[list[Document], list[Document], Tensor]]:
        """Documents of each side by kind of pair, and which belong together."""
        kinds: dict[Kind, list[tuple[Pair, list[Document]]]] = {}
        for pair, documents in items:
            kinds.setdefault((_modality(pair[0]), _modality(pair[1])), []).append((pair, documents))
        return {
            kind: ([d[0] for _, d in members], [d[1] for _, d in members], together([pair for pair, _ in members]))
            for kind, members in kinds.items()
        }

    def count(self, batch: Any) -> dict[str, int]:
        """Pairs of each kind."""
        return {f"{one}-{other}": len(left) for (one, other), (left, _, _) in batch.items()}

    def loss(self, batch: Any, counts: Mapping[str, int]) -> tuple[Tensor, dict[str, float]]:
        """Mean over all pairs of a step; the share of parts whose nearest partner is right is logged as ``hits``.

        A pair contrasts with those of its own batch, so that two small batches are easier than one of both.
        """
        total, values = torch.zeros(()), {}
        for (one, other), (left, right, same) in batch.items():
            logits = cosines(vectors(self.model, left), vectors(self.model, right)) / TEMPERATURE
            total = total + contrast(logits, same) * len(left)
            hits = same.gather(1, logits.argmax(dim=1, keepdim=True)).float().sum()
            values[f"{one}-{other}/hits"] = hits.item() / counts[f"{one}-{other}"]
        loss = total / sum(counts.values())
        return loss, {"loss": loss.item(), **values}


def _modality(part: str | Media) -> str:
    return part.modality if isinstance(part, Media) else "text"


def together(pairs: Sequence[Pair]) -> Tensor:
    """Which sides belong together, ``(N, N)`` bool: those of one pair, and of pairs that share a text."""
    keys = [[side if isinstance(side, str) else index for side in pair] for index, pair in enumerate(pairs)]
    return torch.tensor([[a[0] == b[0] or a[1] == b[1] for b in keys] for a in keys])


def contrast(logits: Tensor, same: Tensor) -> Tensor:
    """InfoNCE both ways; where several sides belong together, each takes an equal share."""
    targets = same.to(logits)
    ways = [F.cross_entropy(x, y / y.sum(dim=1, keepdim=True)) for x, y in ((logits, targets), (logits.T, targets.T))]
    return (ways[0] + ways[1]) / 2
