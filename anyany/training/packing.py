"""Batches of a stream. They are made in groups, so that documents can be dealt out to fill every batch.

A checkpoint holds where a group begins and how many of its batches have been given: the same group is made again.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from anyany.model.document import Document
from anyany.training.data import Stream

T = TypeVar("T")
GROUP = 16
"""Batches that are filled together: each can lack half a small document, and all of them wait in memory."""


class Batches(Generic[T]):
    """Batches in order, with a state from which they go on exactly.

    Args:
        stream: Where they come from.
        group: Makes the next batches of a stream; always the same from the same place.
        size: Batches of a group.
    """

    def __init__(self, stream: Stream[T], group: Callable[[Stream[T]], list[list[T]]], size: int) -> None:
        self.stream, self.group, self.size = stream, group, size
        self._begun, self._given = dict(stream.taken), 0
        self._waiting: deque[list[T]] = deque()

    def take(self) -> list[T]:
        """The next batch."""
        if not self._waiting:
            self._waiting = deque(self.group(self.stream)[self._given :])
        batch = self._waiting.popleft()
        self._given += 1
        if not self._waiting:
            self._begun, self._given = dict(self.stream.taken), 0
        return batch

    def state(self) -> dict[str, Any]:
        """``taken``: samples of each source behind the group's beginning; ``given``: batches given of the group."""
        return {"taken": dict(self._begun), "given": self._given}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on behind the batches of a ``state``."""
        self.stream.restart(state["taken"])
        self._begun, self._given = dict(state["taken"]), state["given"]
        self._waiting.clear()


def counted(stream: Stream[T], count: int) -> list[list[T]]:
    """One batch of ``count``."""
    return [[stream.take() for _ in range(count)]]


def packed(stream: Stream[Document], rows: int) -> list[list[Document]]:
    """``GROUP`` batches of at most ``rows`` rows: the longest beginning of the stream that can be dealt out to them.

    Documents stay whole, and none is left out; within a batch they are in the order of the stream.

    Args:
        stream: Of documents of at most ``rows`` rows.
        rows: Of a batch.
    """
    sizes: list[int] = []
    total = 0
    while total + (size := stream.look(len(sizes)).rows) <= GROUP * rows:
        sizes.append(size)
        total += size
    while (places := dealt(sizes, rows, GROUP)) is None:
        sizes.pop()
    batches: list[list[Document]] = [[] for _ in range(GROUP)]
    for place in places:
        batches[place].append(stream.take())
    return batches


def dealt(sizes: Sequence[int], rows: int, batches: int) -> list[int] | None:
    """The batch of each document, or ``None`` if they do not fit: the longest first, each into the emptiest batch.

    So every batch gets its share of long and of short ones, as first-fit would not give it (Graham 1969).
    """
    places = [0] * len(sizes)
    used = [(0, batch) for batch in range(batches)]
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        full, batch = used[0]
        if full + sizes[index] > rows:
            return None
        heapq.heapreplace(used, (full + sizes[index], batch))
        places[index] = batch
    return places
