"""Data of a run: sources, their mixture, and batches that depend on the seed and the position alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol, TypeVar

import numpy as np

from anyany.errors import AnyanyError, DataError, RecipeError, TruncationError
from anyany.model.document import Document, Planner
from anyany.training import order

T = TypeVar("T")


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


Broken = Callable[[str, int, AnyanyError], None]
MOST_BROKEN = 1000
"""Broken samples in a row after which a source is given up: it holds nothing else."""


class Stream:
    """The endless mixture. Its whole state is how many samples each source has given.

    Args:
        sources: By name.
        weights: By name, how often each is chosen.
        seed: Of the order and of every sample.
        broken: Told of source, sample and error when a sample cannot be used, which is then passed over;
            ``None`` lets the error end the run.
    """

    def __init__(
        self, sources: Mapping[str, Source], weights: Mapping[str, float], seed: int, broken: Broken | None = None
    ) -> None:
        self.sources, self.weights, self.seed, self.broken = sources, weights, seed, broken
        self.taken = dict.fromkeys(sources, 0)

    @property
    def position(self) -> int:
        """Samples given so far."""
        return sum(self.taken.values())

    def peek(self, make: Callable[[str, Any], T]) -> tuple[str, T]:
        """The next sample as ``make(source, sample)`` makes it, and its source, without taking it.

        Raises:
            DataError: Only broken samples came, 1,000 in a row.
            AnyanyError: Whatever the sample or ``make`` raised, where broken samples are not passed over.
        """
        names = list(self.sources)
        for _ in range(MOST_BROKEN):
            name = names[order.choose(self.weights, self.seed, self.position)]
            source, count = self.sources[name], self.taken[name]
            index = order.item(count, len(source), order.mix(self.seed, names.index(name)))
            draw = order.generator(self.seed, names.index(name), count)
            try:
                return name, make(name, source.sample(index, draw))
            except AnyanyError as error:
                if self.broken is None:
                    raise
                self.broken(name, index, error)
                self.take(name)
        raise DataError(f"source {name!r}: the last {MOST_BROKEN} samples cannot be used; see the reports")

    def take(self, name: str) -> None:
        """Count the sample that ``peek`` showed."""
        self.taken[name] += 1


def packed(stream: Stream, planner: Planner, rows: int) -> list[Document]:
    """Documents for one packed batch of at most ``rows`` rows; what does not fit waits for the next.

    Raises:
        TruncationError: A single document is longer than the batch.
        DataError: A document has no row.
    """

    def plan(name: str, sample: Any) -> Document:
        document = planner.plan(sample, train=True)
        if document.rows > rows:
            raise TruncationError(f"source {name!r}: a sample has {document.rows} rows, a batch {rows}; raise rows")
        if document.rows == 0:
            raise DataError(f"source {name!r}: a sample is empty; leave it out")
        if not any(piece.learn for piece in document.pieces):
            raise DataError(f"source {name!r}: a sample has nothing to learn; what is learnt has the role 'assistant'")
        return document

    documents: list[Document] = []
    used = 0
    while True:
        name, document = stream.peek(plan)
        if used + document.rows > rows:
            return documents
        stream.take(name)
        documents.append(document)
        used += document.rows


def taken(stream: Stream, count: int, make: Callable[[str, Any], T]) -> list[T]:
    """The next ``count`` samples as ``make(source, sample)`` makes them."""
    made = []
    for _ in range(count):
        name, one = stream.peek(make)
        stream.take(name)
        made.append(one)
    return made
