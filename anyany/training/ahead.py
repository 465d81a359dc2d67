"""The next batches are made in a thread while the current one is trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Calls ``make`` some calls ahead of ``take``, in order; an error surfaces at the ``take`` it belongs to.

    Args:
        make: Called in one thread of its own, never twice at once.
        depth: How many calls ahead.
    """

    def __init__(self, make: Callable[[], T], depth: int = 1) -> None:
        self.make, self.depth = make, depth
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.coming: deque[Future[T]] = deque()

    def take(self) -> T:
        """What the next call of ``make`` gives."""
        while len(self.coming) <= self.depth:
            self.coming.append(self.pool.submit(self.make))
        return self.coming.popleft().result()

    def close(self) -> None:
        """Wait for the thread and forget what it made."""
        self.pool.shutdown(cancel_futures=True)
        self.coming.clear()
