"""Data of a run: sources, and their endless mixture, which depends on the seed and the position alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from anyany.errors import AnyanyError, DataError, RecipeError
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


@dataclass(frozen=True)
class Ticket:
    """A sample that is still to be made: the ``count``-th that a source gives, which is its sample ``index``."""

    source: str
    count: int
    index: int


def tickets(
    sizes: Mapping[str, int], weights: Mapping[str, float], seed: int, taken: Mapping[str, int]
) -> Iterator[Ticket]:
    """The endless mixture as numbers; which samples turn out to be broken does not change it.

    Args:
        sizes: Samples of each source.
        weights: How often each is chosen.
        seed: Of the order.
        taken: Samples that each has given already.
    """
    names, given = list(sizes), dict(taken)
    for position in count(sum(given.values())):
        number = order.choose(weights, seed, position)
        name = names[number]
        yield Ticket(name, given[name], order.item(given[name], sizes[name], order.mix(seed, number)))
        given[name] += 1


class Make(Protocol):
    """What a task makes of a sample: without weights, picklable, the same in every process."""

    def __call__(self, source: str, sample: Any) -> Any:
        """Something of a batch."""


def made(sources: Mapping[str, Source], seed: int, make: Make, ticket: Ticket) -> Any:
    """What a ticket stands for; an ``AnyanyError`` that this raises is the result."""
    draw = order.generator(seed, list(sources).index(ticket.source), ticket.count)
    try:
        return make(ticket.source, sources[ticket.source].sample(ticket.index, draw))
    except AnyanyError as error:
        return error


Results = Callable[[Iterator[Ticket]], Iterator[tuple[Ticket, Any]]]
"""Makes tickets, in their order: here, or in other processes."""
Broken = Callable[[str, int, AnyanyError], None]
MOST_BROKEN = 1000
"""Broken samples in a row after which a source is given up: it holds nothing else."""


class Stream(Generic[T]):
    """What is made of the endless mixture, in order. Its whole state is how many samples each source has given.

    Args:
        sources: By name.
        weights: By name, how often each is chosen.
        seed: Of the order and of every sample.
        make: What is made of a sample.
        broken: Told of source, sample and error when a sample cannot be used, which is then passed over;
            ``None`` lets the error end the run.
        results: How tickets are made; one by one in this process if ``None``.
    """

    def __init__(
        self, sources: Mapping[str, Source], weights: Mapping[str, float], seed: int,
        make: Callable[[str, Any], T], broken: Broken | None = None, results: Results | None = None,
    ) -> None:  # fmt: skip
        self.sources, self.weights, self.seed = sources, weights, seed
        self.make, self.broken = make, broken
        self.results = results if results is not None else partial(_one_by_one, sources, seed, make)
        self.restart(dict.fromkeys(sources, 0))

    def restart(self, taken: Mapping[str, int]) -> None:
        """Go on behind these many samples of each source."""
        self.taken, self._reached = dict(taken), dict(taken)
        self._coming: deque[tuple[T, dict[str, int]]] = deque()
        sizes = {name: len(source) for name, source in self.sources.items()}
        self._results = self.results(tickets(sizes, self.weights, self.seed, taken))

    def fresh(self) -> Stream[T]:
        """The same stream from its beginning; use it up before going on with this one."""
        return Stream(self.sources, self.weights, self.seed, self.make, self.broken, self.results)

    def look(self, ahead: int = 0) -> T:
        """What stands ``ahead`` places ahead, without taking it.

        Raises:
            DataError: Only broken samples came, 1,000 in a row.
            AnyanyError: Whatever the sample or ``make`` raised, where broken samples are not passed over.
        """
        while len(self._coming) <= ahead:
            self._coming.append((self._next(), dict(self._reached)))
        return self._coming[ahead][0]

    def take(self) -> T:
        """The next; raises as ``look`` does."""
        self.look()
        one, self.taken = self._coming.popleft()
        return one

    def _next(self) -> T:
        for _ in range(MOST_BROKEN):
            ticket, one = next(self._results)
            self._reached[ticket.source] += 1
            if not isinstance(one, AnyanyError):
                return one
            if self.broken is None:
                raise one
            self.broken(ticket.source, ticket.index, one)
        raise DataError(f"source {ticket.source!r}: the last {MOST_BROKEN} samples cannot be used; see the reports")


def _one_by_one(
    sources: Mapping[str, Source], seed: int, make: Make, coming: Iterator[Ticket]
) -> Iterator[tuple[Ticket, Any]]:
    return ((ticket, made(sources, seed, make, ticket)) for ticket in coming)
