"""The next batch is made in a thread while the current one is trained on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Calls ``make`` one call ahead of ``take``, in order; an error surfaces at the ``take`` it belongs to.

    Args:
        make: Called in one thread of its own, never twice at once.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self.make = make
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.coming: Future[T] | None = None

    def take(self) -> T:
        """What the next call of ``make`` gives."""
        coming = self.coming or self.pool.submit(self.make)
        self.coming = self.pool.submit(self.make)
        return coming.result()

    def close(self) -> None:
        """Wait for the thread and forget what it made."""
        self.pool.shutdown(cancel_futures=True)
        self.coming = None
