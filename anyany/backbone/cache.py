"""The cache: one flat pool of key and value rows, in which each request holds a contiguous run.

Shapes: L layers, S capacity in rows, Hkv key heads, Dh head width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from anyany.errors import CacheError


@dataclass(eq=False)
class Run:
    """A request's own rows ``[start, start + length)``, and the prefix that it shares with its parent."""

    start: int
    capacity: int
    length: int = 0
    prefix: tuple[int, int] = (0, 0)
    parent: Run | None = None
    branches: int = 0
    live: bool = field(default=True, repr=False)


class KVPool:
    """Key and value rows of all layers.

    Args:
        layers: L.
        heads: Hkv.
        head_dim: Dh.
        capacity: S.
        device: Of the tensors.
        dtype: Of the tensors.
        debug: Fill rows that are freed, and rows never written, with NaN.
    """

    def __init__(
        self, layers: int, heads: int, head_dim: int, capacity: int, *,
        device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, debug: bool = False,
    ) -> None:  # fmt: skip
        shape = (layers, capacity, heads, head_dim)
        # Zeros, since a masked key still enters the product: what is not finite there costs a second pass.
        self.keys, self.values = (_zeros(shape, torch.device(device), dtype) for _ in range(2))
        self.capacity, self.debug = capacity, debug
        self._runs: list[Run] = []  # by start
        if debug:
            self._poison(0, capacity)

    @property
    def used(self) -> int:
        """Rows that are reserved."""
        return sum(run.capacity for run in self._runs)

    @property
    def free(self) -> int:
        """Rows that are not."""
        return self.capacity - self.used

    def memory(self) -> int:
        """Bytes: ``2 * L * S * Hkv * Dh * bytes per number``."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def reserve(self, capacity: int) -> Run:
        """A run of ``capacity`` rows.

        Raises:
            CacheError: No gap is wide enough; ``compact`` may make one.
        """
        run = Run(self._gap(capacity), capacity)
        self._insert(run)
        return run

    def append(self, run: Run, n: int) -> tuple[int, int]:
        """Add n rows to a run; returns the half-open range of pool rows that they take."""
        self._check_live(run)
        if run.length + n > run.capacity:
            raise CacheError(f"run: holds {run.capacity} rows, {run.length} used, {n} more do not fit; grow it first")
        first = run.start + run.length
        run.length += n
        return first, first + n

    def rollback(self, run: Run, n: int) -> None:
        """Forget the last n rows of a run; rows that a branch sees stay."""
        self._check_live(run)
        shared = max((r.prefix[1] - run.start for r in self._runs if r.parent is run), default=0)
        if not 0 <= n <= run.length - shared:
            raise CacheError(f"rollback: the run has {run.length} rows, {shared} shared, cannot forget {n}")
        run.length -= n
        if self.debug:
            self._poison(run.start + run.length, run.start + run.length + n)

    def fork(self, run: Run, share: int, capacity: int) -> Run:
        """A branch that sees the first ``share`` rows of ``run`` as its prefix.

        The parent does not move while the branch lives.

        Raises:
            CacheError: The parent has a prefix of its own (two ranges are the limit), or too few rows.
        """
        self._check_live(run)
        if run.prefix[1] > run.prefix[0]:
            raise CacheError("fork: the run has a prefix itself; a branch of a branch would need three ranges")
        if not 0 <= share <= run.length:
            raise CacheError(f"fork: cannot share {share} rows of a run of {run.length}")
        branch = self.reserve(capacity)
        branch.prefix = (run.start, run.start + share)
        branch.parent = run
        run.branches += 1
        return branch

    def release(self, run: Run) -> None:
        """Free a run; its branches must be gone."""
        self._check_live(run)
        if run.branches:
            raise CacheError(f"release: {run.branches} branches still see this run; release them first")
        self._runs.remove(run)
        run.live = False
        if run.parent is not None:
            run.parent.branches -= 1
        if self.debug:
            self._poison(run.start, run.start + run.capacity)

    def grow(self, run: Run, capacity: int) -> None:
        """Widen a run, in place where its neighbour leaves room, else by moving it.

        Raises:
            CacheError: There is no room, or the run would have to move while a branch sees it.
        """
        self._check_live(run)
        if capacity < run.capacity:
            raise CacheError(f"grow: the run holds {run.capacity} rows already, got {capacity}")
        at = self._runs.index(run)
        limit = self._runs[at + 1].start if at + 1 < len(self._runs) else self.capacity
        if run.start + capacity <= limit:
            run.capacity = capacity
            return
        if run.branches:
            raise CacheError("grow: the run would have to move while a branch sees it")
        self._runs.remove(run)  # its own rows are room, too
        try:
            self._move(run, self._gap(capacity))
            run.capacity = capacity
        finally:
            self._insert(run)

    def compact(self) -> None:
        """Move all runs to the front; runs with branches stay where they are."""
        end = 0
        for run in list(self._runs):
            if run.branches == 0 and run.start > end:
                self._move(run, end)
            end = run.start + run.capacity

    def write(self, layer: int, slots: slice | Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store rows ``(T, Hkv, Dh)`` of a layer; returns all keys and values of it, ``(S, Hkv, Dh)``."""
        pool_keys, pool_values = self.keys[layer], self.values[layer]
        if isinstance(slots, slice):
            pool_keys[slots], pool_values[slots] = keys, values
        else:
            pool_keys.index_copy_(0, slots, keys)
            pool_values.index_copy_(0, slots, values)
        return pool_keys, pool_values

    def _gap(self, capacity: int) -> int:
        start = 0
        for run in self._runs:
            if run.start - start >= capacity:
                return start
            start = run.start + run.capacity
        if self.capacity - start >= capacity:
            return start
        raise CacheError(f"cache: no {capacity} rows in a row are free ({self.free} of {self.capacity} in all)")

    def _check_live(self, run: Run) -> None:
        if not run.live:
            raise CacheError("run: was released, and its rows may belong to another; reserve a new one")

    def _insert(self, run: Run) -> None:
        self._runs.append(run)
        self._runs.sort(key=lambda r: r.start)

    def _move(self, run: Run, start: int) -> None:
        source, target = slice(run.start, run.start + run.length), slice(start, start + run.length)
        for pool in (self.keys, self.values):
            pool[:, target] = pool[:, source].clone()
        old, run.start = run.start, start
        if self.debug:
            for row in range(old, old + run.length):
                if not start <= row < start + run.length:
                    self._poison(row, row + 1)

    def _poison(self, start: int, stop: int) -> None:
        self.keys[:, start:stop] = float("nan")
        self.values[:, start:stop] = float("nan")


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros; on a CPU, memory that the system gives, zeroed, row by row as it is written to."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    lazy = np.zeros((*shape[:-1], shape[-1] * dtype.itemsize), np.uint8)
    return torch.from_numpy(lazy).view(dtype)
