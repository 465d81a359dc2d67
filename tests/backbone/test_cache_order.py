"""The cache under any order of operations."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from anyany.backbone import KVPool, Run
from anyany.errors import CacheError


@dataclass(eq=False)
class Held:
    """A run and what its rows must hold."""

    run: Run
    rows: list[float] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """Any order of operations: runs stay apart, rows keep what was written, all else is NaN."""

    held = Bundle("held")

    @initialize()
    def begin(self) -> None:
        self.pool = KVPool(2, 1, 1, 24, debug=True)
        self.all: list[Held] = []
        self.next = 0.0

    def keep(self, run: Run) -> Held:
        self.all.append(Held(run))
        return self.all[-1]

    @rule(target=held, capacity=st.integers(1, 8))
    def reserve(self, capacity: int):
        try:
            return self.keep(self.pool.reserve(capacity))
        except CacheError:
            assert not self.gap(capacity)
            return self.all[0]

    @rule(target=held, parent=held, capacity=st.integers(1, 6), data=st.data())
    def fork(self, parent: Held, capacity: int, data: st.DataObject):
        if parent not in self.all or parent.run.parent is not None or not self.gap(capacity):
            return parent
        share = data.draw(st.integers(1, len(parent.rows))) if parent.rows else 0
        return self.keep(self.pool.fork(parent.run, share, capacity))

    @rule(held=held, n=st.integers(1, 5))
    def write(self, held: Held, n: int) -> None:
        if held not in self.all or len(held.rows) + n > held.run.capacity:
            return
        slots = slice(*self.pool.append(held.run, n))
        values = [self.next + i for i in range(n)]
        self.next += n
        for layer in (0, 1):
            self.pool.write(layer, slots, torch.tensor(values).view(-1, 1, 1), -torch.tensor(values).view(-1, 1, 1))
        held.rows += values

    @rule(held=held, n=st.integers(1, 5))
    def rollback(self, held: Held, n: int) -> None:
        if held not in self.all:
            return
        shared = max((h.run.prefix[1] - held.run.start for h in self.branches(held)), default=0)
        if n <= len(held.rows) - shared:
            self.pool.rollback(held.run, n)
            del held.rows[-n:]

    @rule(held=consumes(held))
    def release(self, held: Held) -> None:
        if held in self.all and not self.branches(held):
            self.pool.release(held.run)
            self.all.remove(held)

    @rule(held=held, more=st.integers(0, 8))
    def grow(self, held: Held, more: int) -> None:
        if held in self.all:
            try:
                self.pool.grow(held.run, held.run.capacity + more)
            except CacheError:
                assert more

    @precondition(lambda self: self.all)
    @rule()
    def compact(self) -> None:
        free = self.pool.free
        self.pool.compact()
        if not any(self.branches(h) for h in self.all):
            assert free == 0 or self.gap(free)

    def branches(self, held: Held) -> list[Held]:
        return [h for h in self.all if h.run.parent is held.run]

    def gap(self, capacity: int) -> bool:
        taken = {row for h in self.all for row in range(h.run.start, h.run.start + h.run.capacity)}
        return any(taken.isdisjoint(range(at, at + capacity)) for at in range(24 - capacity + 1))

    @invariant()
    def rows_are_right(self) -> None:
        want = torch.full((24,), float("nan"))
        taken: set[int] = set()
        for h in self.all:
            own = set(range(h.run.start, h.run.start + h.run.capacity))
            assert taken.isdisjoint(own)
            assert own <= set(range(24))
            taken |= own
            assert h.run.length == len(h.rows)
            want[h.run.start : h.run.start + len(h.rows)] = torch.tensor(h.rows)
            if h.run.parent is not None:
                parent = next(p for p in self.all if p.run is h.run.parent)
                low, high = h.run.prefix
                assert low == parent.run.start
                assert high - low <= len(parent.rows)
        assert self.pool.used == len(taken)
        for layer in (0, 1):
            torch.testing.assert_close(self.pool.keys[layer, :, 0, 0], want, rtol=0, atol=0, equal_nan=True)
            torch.testing.assert_close(self.pool.values[layer, :, 0, 0], -want, rtol=0, atol=0, equal_nan=True)


TestAnyOrder = Machine.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
