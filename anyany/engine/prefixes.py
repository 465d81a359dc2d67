"""Runs of the cache by what they hold: a prompt that begins like an earlier one takes its rows.

While a request lives, others may see its first rows as their prefix. When it is done its run stays, until the room is
needed: those that were used least recently go first. A prompt that goes on where a finished one ended, as the next turn
of a chat does, takes the run itself; any other branches off it. Only whole spans are shared where rows see each other
both ways, and the last row of a prompt is always computed, because its hidden state is asked for.

Rows that are found are those that were computed before, with other rows in the pass; what a request says is what it
would say without, up to the rounding of a larger matrix product, as among other requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anyany.backbone.cache import KVPool, Run
from anyany.backbone.lora import LoRA
from anyany.backbone.unchanged import Unchanged
from anyany.engine.opening import Planned, common, cuts, last_cut

LEAST = 16
"""Rows that are worth sharing; fewer are computed as fast as they are found."""


@dataclass(eq=False)
class Trail:
    """What a run holds.

    Attributes:
        run: In the pool.
        adapter: What its rows went through beside the weights, and how that was.
        content: ``(k, 4)`` of its first rows, those of its prefix included.
        open: The content of every row so far is known.
        live: Its request has not ended.
        pinned: It must not go now.
    """

    run: Run
    adapter: LoRA | None
    weights: Unchanged | None
    content: np.ndarray
    open: bool
    live: bool = True
    pinned: bool = False
    said: list[np.ndarray] = field(default_factory=list)

    def add(self, content: np.ndarray | None) -> None:
        """More rows, with what they hold; behind rows of which that is not known, nothing is."""
        self.open = self.open and content is not None
        if self.open and content is not None:
            self.said.append(content)

    def end(self) -> None:
        """What the run holds now is all that is known of it from now on."""
        self.content = np.concatenate([self.content, *self.said])[: self.run.rows]
        self.open, self.said = False, []

    def made_with(self, adapter: LoRA | None) -> bool:
        """Whether rows would be the same with this adapter."""
        if adapter is not self.adapter:
            return False
        return adapter is None or (self.weights is not None and self.weights.holds([adapter]))


@dataclass(frozen=True)
class Found:
    """Rows that a prompt may take; ``soon``: as many more are being read by another request now."""

    trail: Trail | None
    rows: int = 0
    soon: int = 0


class Prefixes:
    """Finds rows in a pool.

    Args:
        pool: Of the engine.

    Attributes:
        hits: Prompts that found rows.
        rows: How many they found.
    """

    def __init__(self, pool: KVPool) -> None:
        self.pool = pool
        self.hits = self.rows = 0
        self._trails: list[Trail] = []  # used least recently first
        pool.reclaim = self._reclaim

    @property
    def kept(self) -> int:
        """Rows of the pool that belong to no request."""
        return sum(trail.run.capacity for trail in self._trails if not trail.live)

    def find(self, planned: Planned, adapter: LoRA | None) -> Found:
        """The most rows that a prompt can take, and whether it is better to wait for more."""
        best, soon, places = Found(None), 0, cuts(planned.sees)
        for trail in self._trails:
            alike = min(common(trail.content, planned.content), planned.rows - 1)
            if alike < LEAST or not trail.made_with(adapter):
                continue
            rows = last_cut(places, min(alike, trail.run.rows))
            if rows >= max(LEAST, best.rows):  # of two the one that was used last
                best = Found(trail, rows)
            if trail.live:
                soon = max(soon, last_cut(places, alike))
        return Found(best.trail, best.rows, soon if soon >= best.rows + LEAST else 0)

    def take(self, found: Found, more: int) -> Run:
        """A run that holds or sees the rows that were found, and has room for ``more``.

        Raises:
            CacheError: There is no room.
        """
        trail = found.trail
        if trail is None:
            return self.pool.reserve(more)
        run = trail.run
        trail.pinned = True
        try:
            lost = run.rows - found.rows
            if trail.live or run.branches or lost >= LEAST or lost > run.length:
                run = self.pool.fork(run, found.rows, more)
                self._used(trail)
            else:
                self.pool.rollback(run, lost)
                trail.content = trail.content[: run.rows]
                self.pool.grow(run, max(run.capacity, run.length + more))
                self._trails.remove(trail)
        finally:
            trail.pinned = False
        self.hits, self.rows = self.hits + 1, self.rows + found.rows
        return run

    def begin(self, run: Run, planned: Planned, adapter: LoRA | None) -> Trail:
        """Make the rows of a request known to others, as they are computed."""
        weights = None if adapter is None else Unchanged([adapter])
        trail = Trail(run, adapter, weights, planned.content, open=len(planned.content) == planned.rows)
        self._trails.append(trail)
        return trail

    def keep(self, trail: Trail) -> None:
        """Keep the run of a request that has ended, as far as it is known what it holds."""
        run, trail.live = trail.run, False
        trail.end()
        before = run.rows - run.length
        seen = self.pool.shared(run)
        known = max(len(trail.content) - before, seen)
        if len(trail.content) - before < LEAST and not seen:
            self._forget(trail)
            return
        self.pool.rollback(run, run.length - known)
        run.capacity = known
        self._used(trail)

    def drop(self, trail: Trail) -> None:
        """Forget the run of a request that failed, as soon as no other sees it."""
        trail.end()
        trail.content = trail.content[:0]
        self.keep(trail)

    def clear(self) -> None:
        """Forget every run that no request needs."""
        while self._reclaim():
            pass

    def _reclaim(self) -> bool:
        """Free what was used least recently, or the part of it that no branch sees."""
        for trail in self._trails:
            if trail.live or trail.pinned:
                continue
            run = trail.run
            if not run.branches:
                self._forget(trail)
                return True
            seen = self.pool.shared(run)
            if seen < run.capacity:
                self.pool.rollback(run, run.length - seen)
                run.capacity, trail.content = seen, trail.content[: run.rows]
                return True
        return False

    def _used(self, trail: Trail) -> None:
        self._trails.remove(trail)
        self._trails.append(trail)

    def _forget(self, trail: Trail) -> None:
        self._trails.remove(trail)
        self.pool.release(trail.run)
