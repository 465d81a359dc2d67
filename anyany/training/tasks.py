"""What a run learns: how a batch is made of samples, and what its loss is. One class per task of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from anyany.errors import DataError
from anyany.heads.base import HeadLoss
from anyany.model import Model
from anyany.model.assembly import counts, placed
from anyany.model.document import Document
from anyany.parts import Media
from anyany.training import data
from anyany.training.bind import Bind
from anyany.training.recipe import Recipe

Terms = dict[str, float]
Counts = Mapping[str, int]
SCALE_SAMPLES = 2000


class Task(Protocol):
    """One kind of training; ``batch`` runs in a thread of its own and uses no weights."""

    def begin(self, stream: data.Stream) -> None:
        """Before the first step of a run, with a stream of the run's data that may be used up."""

    def batch(self, stream: data.Stream) -> Any:
        """The next batch of the stream."""

    def count(self, batch: Any) -> Counts:
        """Rows, items or pairs of the batch by what has a mean of its own."""

    def loss(self, batch: Any, counts: Counts) -> tuple[Tensor, Terms]:
        """The batch's part of the step's loss, and of what is worth logging.

        Each mean is over ``counts``, the sums over all batches of the step, so that the parts of the batches add up
        to what one batch of all of them would give.
        """


class Sequences:
    """Interleaved conversations, packed; every head learns by its own loss."""

    def __init__(self, model: Model, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe

    def begin(self, stream: data.Stream) -> None:
        """Give heads of continuous latents the scale of their data, if no earlier run has."""
        fresh = {name for name, head in self.model.heads.items() if head.unscaled}
        found: dict[str, list[Tensor]] = {}
        for document in data.taken(stream, SCALE_SAMPLES if fresh else 0, self._plan):
            for piece in document.pieces:
                own = piece.span.component
                if own in fresh and piece.learn and piece.prepared is not None and piece.span.view == "latents":
                    with torch.no_grad():
                        found.setdefault(own, []).append(self.model.codecs[own].encode([piece.prepared]))
        for name, latents in found.items():
            self.model.heads[name].fit(torch.cat(latents))

    def _plan(self, source: str, sample: Any) -> Document:
        return self.model.planner.plan(sample, train=True)

    def batch(self, stream: data.Stream) -> list[Document]:
        """Documents of at most ``rows`` rows."""
        return data.packed(stream, self.model.planner, self.recipe.rows)

    def count(self, batch: Sequence[Document]) -> Counts:
        """Rows of each head."""
        return counts(self.model, placed(batch))

    def loss(self, batch: Sequence[Document], counts: Counts) -> tuple[Tensor, Terms]:
        """Weighted sum of the mean loss of each head."""
        terms: Mapping[str, HeadLoss] = self.model(batch)
        means = {name: term.total / max(counts[name], 1) for name, term in terms.items()}
        loss = torch.stack([self.recipe.weights.get(name, 1.0) * mean for name, mean in means.items()]).sum()
        rows = float(sum(document.rows for document in batch))
        return loss, {"loss": loss.item(), **{n: m.item() for n, m in means.items()}, "rows": rows}


class Codecs:
    """Codecs by their own losses: reconstruction, commitment."""

    def __init__(self, model: Model, recipe: Recipe) -> None:
        self.codecs, self.rows = model.planner.codecs, recipe.rows

    def begin(self, stream: data.Stream) -> None:
        """Nothing to prepare."""

    def batch(self, stream: data.Stream) -> dict[str, list[Any]]:
        """``rows`` items, by modality."""
        prepared: dict[str, list[Any]] = {}
        for modality, one in data.taken(stream, self.rows, self._prepare):
            prepared.setdefault(modality, []).append(one)
        return prepared

    def _prepare(self, source: str, media: Any) -> tuple[str, Any]:
        if not isinstance(media, Media) or media.modality not in self.codecs:
            raise DataError(
                f"source {source!r}: the codec task takes media of {', '.join(self.codecs)}, got {type(media).__name__}"
            )
        return media.modality, self.codecs[media.modality][1].prepare(media)

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
