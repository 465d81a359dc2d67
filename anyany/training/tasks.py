"""What a run learns: how a batch is made of samples, and what its loss is. One class per task of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from anyany.errors import DataError, TruncationError
from anyany.heads.base import HeadLoss
from anyany.model import Model
from anyany.model.assembly import counts, placed
from anyany.model.document import Document, Planner
from anyany.parts import Media
from anyany.training.bind import Bind
from anyany.training.data import Make, Stream
from anyany.training.packing import GROUP, Batches, counted, packed
from anyany.training.recipe import Recipe

Terms = dict[str, float]
Counts = Mapping[str, int]
SCALE_SAMPLES = 2000


class Task(Protocol):
    """One kind of training; ``batch`` runs in a thread of its own and uses no weights."""

    make: Make
    """What is made of each sample, in this process or in a worker."""

    def begin(self, stream: Stream[Any]) -> None:
        """Before the first step of a run, with a stream of the run's data that may be used up."""

    def batches(self, stream: Stream[Any]) -> Batches[Any]:
        """The stream in batches."""

    def batch(self, items: Sequence[Any]) -> Any:
        """What ``loss`` takes, of the items of one batch."""

    def count(self, batch: Any) -> Counts:
        """Rows, items or pairs of the batch by what has a mean of its own."""

    def loss(self, batch: Any, counts: Counts) -> tuple[Tensor, Terms]:
        """The batch's part of the step's loss, and of what is worth logging.

        Each mean is over ``counts``, the sums over all batches of the step, so that the parts of the batches add up
        to what one batch of all of them would give.
        """


@dataclass(frozen=True)
class Planned:
    """Makes documents that can be learnt from and fit into a batch of ``rows`` rows."""

    planner: Planner
    rows: int

    def __call__(self, source: str, sample: Any) -> Document:
        """Plan a conversation.

        Raises:
            TruncationError: It is longer than a batch.
            DataError: It is empty, or there is nothing to learn.
        """
        document, rows = self.planner.plan(sample, train=True), self.rows
        if document.rows > rows:
            raise TruncationError(f"source {source!r}: a sample has {document.rows} rows, a batch {rows}; raise rows")
        if document.rows == 0:
            raise DataError(f"source {source!r}: a sample is empty; leave it out")
        if not any(piece.learn for piece in document.pieces):
            raise DataError(
                f"source {source!r}: a sample has nothing to learn; what is learnt has the role 'assistant'"
            )
        return document


@dataclass(frozen=True)
class Encodable:
    """Makes what a codec learns from: the modality, and the media as the codec prepares them."""

    planner: Planner

    def __call__(self, source: str, sample: Any) -> tuple[str, Any]:
        """Prepare one part, or the second of a pair as what continues the first.

        Raises:
            DataError: It is no media that a codec of the model takes, or the two differ in modality.
        """
        codecs = self.planner.codecs
        before, media = sample if isinstance(sample, tuple) and len(sample) == 2 else (None, sample)
        for part in (media,) if before is None else (before, media):
            if not isinstance(part, Media) or part.modality not in codecs:
                raise DataError(
                    f"source {source!r}: the codec task takes media of {', '.join(codecs)}, or a pair of one and "
                    f"what continues it; got {type(part).__name__}"
                )
        if before is not None and before.modality != media.modality:
            raise DataError(f"source {source!r}: {media.modality} cannot continue {before.modality}; give both alike")
        return media.modality, codecs[media.modality][1].prepare(media, before)


class Sequences:
    """Interleaved conversations, packed; every head learns by its own loss."""

    def __init__(self, model: Model, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        self.make = Planned(model.planner, recipe.rows)

    def begin(self, stream: Stream[Document]) -> None:
        """Give heads of continuous latents the scale of their data, if no earlier run has."""
        fresh = {name for name, head in self.model.heads.items() if head.unscaled}
        found: dict[str, list[Tensor]] = {}
        for _ in range(SCALE_SAMPLES if fresh else 0):
            for piece in stream.take().pieces:
                own = piece.span.component
                if own in fresh and piece.learn and piece.prepared is not None and piece.span.view == "latents":
                    with torch.no_grad():
                        found.setdefault(own, []).append(self.model.producers[f"codec/{own}"]([piece.prepared]))
        for name, latents in found.items():
            self.model.heads[name].fit(torch.cat(latents))

    def batches(self, stream: Stream[Document]) -> Batches[Document]:
        """Documents of at most ``rows`` rows."""
        return Batches(stream, partial(packed, rows=self.recipe.rows), GROUP)

    def batch(self, items: Sequence[Document]) -> Sequence[Document]:
        """The documents as they are."""
        return items

    def count(self, batch: Sequence[Document]) -> Counts:
        """Rows of each head."""
        return counts(self.model, placed(batch))

    def loss(self, batch: Sequence[Document], counts: Counts) -> tuple[Tensor, Terms]:
        """Weighted sum of the mean loss of each head."""
        terms: Mapping[str, HeadLoss] = self.model(batch)
        means = {name: term.total / max(counts[name], 1) for name, term in terms.items()}
        loss = torch.stack([self.recipe.weights.get(name, 1.0) * mean for name, mean in means.items()]).sum()
        rows = float(sum(document.rows for document in batch))
        fill = rows / (self.recipe.rows * self.recipe.accumulate)
        return loss, {"loss": loss.item(), **{n: m.item() for n, m in means.items()}, "rows": rows, "fill": fill}


class Codecs:
    """Codecs by their own losses. A sample is one part, or a pair: a part and what continues it."""

    def __init__(self, model: Model, recipe: Recipe) -> None:
        self.codecs, self.rows = model.planner.codecs, recipe.rows
        self.make = Encodable(model.planner)

    def begin(self, stream: Stream[tuple[str, Any]]) -> None:
        """Nothing to prepare."""

    def batches(self, stream: Stream[tuple[str, Any]]) -> Batches[tuple[str, Any]]:
        """``rows`` items."""
        return Batches(stream, partial(counted, count=self.rows), 1)

    def batch(self, items: Sequence[tuple[str, Any]]) -> dict[str, list[Any]]:
        """Prepared media by modality."""
        prepared: dict[str, list[Any]] = {}
        for modality, one in items:
            prepared.setdefault(modality, []).append(one)
        return prepared

    def count(self, batch: Mapping[str, Any]) -> Counts:
        """Items of each modality."""
        return {modality: len(prepared) for modality, prepared in batch.items()}

    def loss(self, batch: Mapping[str, Any], counts: Counts) -> tuple[Tensor, Terms]:
        """Sum of the terms of all codecs, each weighed by its items: exact where a term is the mean over items."""
        values: Terms = {}
        losses = []
        for modality, prepared in batch.items():
            share = len(prepared) / counts[modality]
            for name, term in self.codecs[modality][1].loss(prepared).items():
                losses.append(term * share)
                values[f"{modality}/{name}"] = losses[-1].item()
        loss = torch.stack(losses).sum()
        return loss, {"loss": loss.item(), **values}


TASKS = {"sequence": Sequences, "codec": Codecs, "bind": Bind}
"""By the ``task`` of a recipe."""
