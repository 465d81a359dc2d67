"""The cache: one flat pool of key and value rows, in which each request holds a contiguous run.

Shapes: L layers, S capacity in rows, Hkv key heads, Dh head width.
"""

from __future__ import annotations

from collections.abc import Callable
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

    @property
    def rows(self) -> int:
        """Rows that it holds or shares."""
        return self.length + self.prefix[1] - self.prefix[0]


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

    Attributes:
        reclaim: Asked where there is no room: frees a run that nobody needs, and says whether there was one.
    """

    def __init__(
        self, layers: int, heads: int, head_dim: int, capacity: int, *,
        device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, debug: bool = False,
    ) -> None:  # fmt: skip
        shape = (layers, capacity, heads, head_dim)
        # Zeros, since a masked key still enters the product: what is not finite there costs a second pass.
        self.keys, self.values = (_zeros(shape, torch.device(device), dtype) for _ in range(2))
        self.capacity, self.debug = capacity, debug
        self.reclaim: Callable[[], bool] = lambda: False
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
        shared = self.shared(run)
        if not 0 <= n <= run.length - shared:
            raise CacheError(f"rollback: the run has {run.length} rows, {shared} shared, cannot forget {n}")
        run.length -= n
        if self.debug:
            self._poison(run.start + run.length, run.start + run.length + n)

    def shared(self, run: Run) -> int:
        """How many rows of a run its branches see."""
        return max((r.prefix[1] - run.start for r in self._runs if r.parent is run), default=0)

    def fork(self, run: Run, share: int, capacity: int) -> Run:
        """A branch that sees the first ``share`` rows of ``run`` as its prefix, and has room for ``capacity`` more.

        Two ranges are the limit: a branch of a branch has its parent's prefix, and a copy of what it shares of its
        parent's own rows.

        Raises:
            CacheError: The parent has too few rows, or there is no room.
        """
        self._check_live(run)
        if not 0 <= share <= run.rows:
            raise CacheError(f"fork: cannot share {share} rows of a run of {run.rows}")
        before = run.rows - run.length
        shared = min(share, before) if before else share
        branch = self.reserve(capacity + share - shared)
        parent, start = (run.parent, run.prefix[0]) if before and run.parent is not None else (run, run.start)
        branch.parent, branch.prefix = parent, (start, start + shared)
        parent.branches += 1
        self._copy(run.start, branch.start, share - shared)
        branch.length = share - shared
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
            CacheError: There is no room.
        """
        self._check_live(run)
        if capacity < run.capacity:
            raise CacheError(f"grow: the run holds {run.capacity} rows already, got {capacity}")
        at = self._runs.index(run)
        limit = self._runs[at + 1].start if at + 1 < len(self._runs) else self.capacity
        if run.start + capacity <= limit:
            run.capacity = capacity
            return
        self._move(run, self._gap(capacity, run))
        run.capacity = capacity
        self._runs.sort(key=_start)

    def compact(self) -> None:
        """Move all runs to the front."""
        end = 0
        for run in list(self._runs):
            if run.start > end:
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

    def _gap(self, capacity: int, moving: Run | None = None) -> int:
        """Where so many rows are free, those of a run that moves among them; what nobody needs makes room."""
        while (start := self._first_gap(capacity, moving)) is None:
            if not self.reclaim():
                raise CacheError(f"cache: no {capacity} rows in a row are free ({self.free} of {self.capacity} in all)")
        return start

    def _first_gap(self, capacity: int, moving: Run | None) -> int | None:
        start = 0
        for run in self._runs:
            if run is moving:
                continue
            if run.start - start >= capacity:
                return start
            start = run.start + run.capacity
        return start if self.capacity - start >= capacity else None

    def _check_live(self, run: Run) -> None:
        if not run.live:
            raise CacheError("run: was released, and its rows may belong to another; reserve a new one")

    def _insert(self, run: Run) -> None:
        self._runs.append(run)
        self._runs.sort(key=_start)

    def _move(self, run: Run, start: int) -> None:
        self._copy(run.start, start, run.length)
        old, run.start = run.start, start
        for branch in self._runs:
            if branch.parent is run:
                branch.prefix = (branch.prefix[0] + start - old, branch.prefix[1] + start - old)
        if self.debug:
            for row in range(old, old + run.length):
                if not start <= row < start + run.length:
                    self._poison(row, row + 1)

    def _copy(self, source: int, target: int, rows: int) -> None:
        for pool in (self.keys, self.values):
            pool[:, target : target + rows] = pool[:, source : source + rows].clone()

    def _poison(self, start: int, stop: int) -> None:
        self.keys[:, start:stop] = float("nan")
        self.values[:, start:stop] = float("nan")


def _start(run: Run) -> int:
    return run.start


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros; on a CPU, memory that the system gives, zeroed, row by row as it is written to."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    lazy = np.zeros((*shape[:-1], shape[-1] * dtype.itemsize), np.uint8)
    return torch.from_numpy(lazy).view(dtype)
