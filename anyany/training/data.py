"""Data of a run: sources, their mixture, and batches that depend on the seed and the position alone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from anyany.errors import DataError, RecipeError, TruncationError
from anyany.model.document import Document, Planner
from anyany.training import order


class Source(Protocol):
    """Samples by number. A sample is a list of ``Message``, one media part or a pair, as the task wants."""

    def __len__(self) -> int:
        """Number of samples in an epoch."""

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """Sample ``index``; everything random about it comes from ``draw``."""


def build_sources(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, Source]:
    """Build each source of a recipe from its factory and options."""
    built = {}
    for name, entry in sources.items():
        built[name] = resolve(entry["factory"])(**entry.get("options", {}))
        if len(built[name]) == 0:
            raise RecipeError(f"source {name!r}: holds no samples")
    return built


def resolve(target: str) -> Any:
    """The object that ``"package.module:name"`` names."""
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise RecipeError(f"factory {target!r}: cannot be imported; expected 'package.module:callable'") from None


class Stream:
    """The endless mixture. Its whole state is how many samples each source has given.

    Args:
        sources: By name.
        weights: By name, how often each is chosen.
        seed: Of the order and of every sample.
    """

    def __init__(self, sources: Mapping[str, Source], weights: Mapping[str, float], seed: int) -> None:
        self.sources, self.weights, self.seed = sources, weights, seed
        self.taken = dict.fromkeys(sources, 0)

    @property
    def position(self) -> int:
        """Samples given so far."""
        return sum(self.taken.values())

    def peek(self) -> tuple[str, Any]:
        """The next sample and its source, without taking it."""
        names = list(self.sources)
        name = names[order.choose(self.weights, self.seed, self.position)]
        source, count = self.sources[name], self.taken[name]
        index = order.item(count, len(source), order.mix(self.seed, names.index(name)))
        draw = order.generator(self.seed, names.index(name), count)
        return name, source.sample(index, draw)

    def take(self, name: str) -> None:
        """Count the sample that ``peek`` showed."""
        self.taken[name] += 1


def packed(stream: Stream, planner: Planner, rows: int) -> list[Document]:
    """Documents for one packed batch of at most ``rows`` rows; what does not fit waits for the next.

    Raises:
        TruncationError: A single document is longer than the batch.
        DataError: A document has no row.
    """
    documents: list[Document] = []
    used = 0
    while True:
        name, sample = stream.peek()
        document = planner.plan(sample, train=True)
        if document.rows > rows:
            raise TruncationError(f"source {name!r}: a sample has {document.rows} rows, a batch {rows}; raise rows")
        if document.rows == 0:
            raise DataError(f"source {name!r}: a sample is empty; leave it out")
        if used + document.rows > rows:
            return documents
        stream.take(name)
        documents.append(document)
        used += document.rows


def take(stream: Stream, count: int) -> list[Any]:
    """The next ``count`` samples."""
    samples = []
    for _ in range(count):
        name, sample = stream.peek()
        stream.take(name)
        samples.append(sample)
    return samples
