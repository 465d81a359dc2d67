"""The engine: many conversations over one backbone and one cache.

Each live request is a generator that asks for rows. One engine step collects the asks of all of them,
runs one packed forward, samples once per head, and sends the answers back. Requests are admitted and
cancelled between steps. A request that fails is closed, and its rows are freed; no other is touched.

Shapes: T packed rows of a step, D model width, G branches of a request (itself first).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from anyany.backbone import Backbone
from anyany.backbone.cache import KVPool, Run
from anyany.backbone.lora import LoRA, using
from anyany.engine.live import Conversation, Live, piece, portions
from anyany.engine.opening import Open, Opening
from anyany.engine.prefixes import Prefixes
from anyany.engine.sampling import finite, sample
from anyany.errors import CacheError, LayoutError
from anyany.heads.steps import Drop, Fork, Join, Result, Step

FIRST_ROWS = 64
PIECE = 256
"""Rows of prompts that pass in a step while others are in the middle of a reply."""
Job = tuple[Step, Run, LoRA | None]
"""Rows that go through the backbone: where they go in the cache, and with which adapter."""


class Engine:
    """Runs conversations until each is done.

    Args:
        backbone: The decoder-only stack.
        rows: Capacity of the cache pool.
        max_live: Requests that run at once; the rest waits, in order.
        prefixes: Finds rows of earlier requests in the pool that it brings along; ``None`` shares none.
        piece: Rows of prompts that pass in a step while others are in the middle of a reply.
    """

    def __init__(
        self, backbone: Backbone, *, rows: int = 16384, max_live: int = 64, prefixes: Prefixes | None = None,
        piece: int = PIECE,
    ) -> None:  # fmt: skip
        self.backbone, self.prefixes = backbone, prefixes
        weight = next(backbone.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        self.pool: KVPool = (
            backbone.new_pool(rows, device=weight.device, dtype=weight.dtype) if prefixes is None else prefixes.pool
        )
        self.max_live, self.piece = max_live, piece
        self.waiting: deque[Live] = deque()
        self.live: list[Live] = []

    def submit(
        self, conversation: Conversation, draw: torch.Generator, failed: Callable[[BaseException], None],
        adapter: LoRA | None = None,
    ) -> Live:  # fmt: skip
        """Queue a request; it is admitted when the cache has room."""
        request = Live(conversation, draw, failed, adapter)
        self.waiting.append(request)
        return request

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self.live and not self.waiting

    @torch.inference_mode()
    def step(self) -> None:
        """Admit, run one packed forward, sample, answer."""
        self._sweep()
        self._admit()
        asking = [request for request in self.live if self._room(request)]
        if not asking and self.live:
            self.pool.compact()  # nobody can go on: gaps between the runs may be all that is missing
            asking = [request for request in self.live if self._room(request)]
        if not asking and self.live:
            self._fail(self.live[-1], CacheError(_full(self.pool)))
        through = self._forward(portions(asking, self.piece)) if asking else []
        answers = sample([request for request, _ in through], [states for _, states in through])
        for (request, states), answer in zip(through, answers, strict=True):
            self._answer(request, states, answer)
        self._sweep()

    def run(self) -> None:
        """Step until idle."""
        while not self.idle:
            self.step()

    def close(self) -> None:
        """Cancel everything and free the cache."""
        for request in [*self.live, *self.waiting]:
            request.cancel()
        while self.waiting:
            self._close(self.waiting.popleft())
        self._sweep()

    # Admission and the end of requests.

    def _admit(self) -> None:
        """Requests begin for which there is room, in order; those that would rather share rows are passed over."""
        begun: list[Live] = []
        for request in tuple(self.waiting):
            if len(self.live) >= self.max_live:
                break
            if request.ask is None and not request.cancelled:
                self._advance(request, None)
            if request.ask is None or request.cancelled:
                self.waiting.remove(request)
                self._close(request)
                continue
            rows, capacity = _rows(request.ask), self.pool.capacity
            if rows > capacity:
                self.waiting.remove(request)
                self._fail(request, CacheError(f"prompt: needs {rows} rows, the cache has {capacity}; shorten it"))
                continue
            if (seated := self._seat(request, rows)) is None:
                continue
            if not seated:
                break
            self.waiting.remove(request)
            self.live.append(request)
            begun.append(request)
        self._open([request for request in begun if isinstance(request.ask, Open)])

    def _seat(self, request: Live, rows: int) -> bool | None:
        """Give a request its run, or part of another's; ``None``: to wait a step until more can be shared is better."""
        more = min(rows + FIRST_ROWS, self.pool.capacity)
        try:
            if self.prefixes is None or not isinstance(request.ask, Open):
                request.runs = [self.pool.reserve(more)]
                return True
            found = self.prefixes.find(request.ask.planned, request.adapter)
            if found.soon:
                return None
            try:
                run = self.prefixes.take(found, min(rows - found.rows + FIRST_ROWS, self.pool.capacity))
            except CacheError:
                run = self.pool.reserve(more)  # what was found may be what is in the way
            request.runs, request.trail = [run], self.prefixes.begin(run, request.ask.planned, request.adapter)
            return True
        except CacheError:
            return False  # until a live request is done

    def _open(self, requests: Sequence[Live]) -> None:
        """Make the rows of prompts: one call of the opener for all with the same adapter, or each alone if it fails."""
        groups: dict[tuple[int, int], list[Live]] = {}
        for request in requests:
            groups.setdefault((id(request.ask.opener), id(request.adapter)), []).append(request)  # type: ignore[union-attr]
        for members in groups.values():
            for request, opening in zip(members, _opened(members), strict=True):
                if isinstance(opening, Exception):
                    self._fail(request, opening)
                else:
                    self._advance(request, opening)
        self._sweep()

    def _room(self, request: Live) -> bool:
        """Make sure that the ask fits into the runs of the request."""
        if isinstance(request.ask, Fork):  # it waited for the rows of its branch
            self._advance(request, None, again=request.ask)
        if not isinstance(request.ask, Step):
            return False
        needs = [(run, run.length + len(request.ask.rows)) for run in request.runs]
        return all(need <= run.capacity or self._grow(run, need) for run, need in needs)

    def _grow(self, run: Run, need: int) -> bool:
        """Grow by doubling; where that is too much, by what is needed."""
        for capacity in (max(2 * run.capacity, need), need):
            try:
                self.pool.grow(run, capacity)
                return True
            except CacheError:
                continue
        return False

    def _sweep(self) -> None:
        for request in self.live:
            if request.cancelled or request.done:
                self._close(request)
        if any(request.done for request in self.live):
            self.live = [request for request in self.live if not request.done]

    def _close(self, request: Live, *, failed: bool = False) -> None:
        request.done, request.ask = True, None
        try:
            request.conversation.close()
        except Exception as error:  # its own clean-up is at fault; its rows are freed all the same
            request.failed(error)
        for run in reversed(request.runs[0 if request.trail is None else 1 :]):
            self.pool.release(run)
        if self.prefixes is not None and request.trail is not None:
            (self.prefixes.drop if failed else self.prefixes.keep)(request.trail)
        request.runs, request.trail = [], None

    def _fail(self, request: Live, error: BaseException) -> None:
        self._close(request, failed=True)
        request.failed(error)

    def _answer(self, request: Live, states: Tensor | Exception, answer: Any) -> None:
        """Hand a request what it asked for, or its own failure."""
        ask: Step = request.ask  # type: ignore[assignment]
        if isinstance(states, Exception):
            self._fail(request, states)
            return
        request.answered()
        if not ask.keep:
            for run in request.runs:
                self.pool.rollback(run, len(ask.rows))
        if isinstance(answer, Exception):
            self._fail(request, answer)
        else:
            self._advance(request, Result(states, **answer))

    def _advance(self, request: Live, answer: Result | Opening | None, *, again: Fork | None = None) -> None:
        """Send an answer and take the next step; everything but a step is answered at once.

        A fork for which there are no rows waits while others live: ``again`` is that fork.
        """
        try:
            with using(request.adapter):
                self._exchange(request, answer, again)
        except StopIteration:
            request.done, request.ask = True, None
        except Exception as error:  # one failing request never harms another
            self._fail(request, error)

    def _exchange(self, request: Live, answer: Result | Opening | None, again: Fork | None) -> None:
        ask: Any = again or request.conversation.send(answer)  # type: ignore[arg-type]
        while not isinstance(ask, Step):
            if isinstance(ask, Open):
                request.ask = ask
                return
            request.ask = ask if isinstance(ask, Fork) else None
            try:
                self._serve(request, ask)
            except CacheError:
                if isinstance(ask, Fork) and len(self.live) > 1:
                    return
                raise
            ask = request.conversation.send(Result())
        _check(ask, self.backbone.width)
        request.ask = ask

    def _serve(self, request: Live, ask: Drop | Fork | Join) -> None:
        if isinstance(ask, Drop):
            for run in request.runs:
                self.pool.rollback(run, ask.n)
            if request.trail is not None:
                request.trail.end()
        elif isinstance(ask, Fork):
            self._fork(request, ask)
        elif isinstance(ask, Join):
            for run in reversed(request.runs[1:]):
                self.pool.release(run)
            request.runs = request.runs[:1]

    def _fork(self, request: Live, ask: Fork) -> None:
        parent = request.runs[0]
        share = parent.rows if ask.share is None else ask.share
        capacity = len(ask.rows) + FIRST_ROWS
        branch = self.pool.fork(parent, share, capacity) if share else self.pool.reserve(capacity)
        request.runs.append(branch)
        if len(ask.rows):
            step = Step(ask.rows, ask.coordinates)
            self._pass([(step, branch, request.adapter)])

    # One packed forward.

    def _forward(self, asking: list[tuple[Live, int]]) -> list[tuple[Live, Any]]:
        """Requests whose ask is through: its hidden states ``(G, n, D)``, or what it failed with.

        Args:
            asking: Each with how many rows of its ask pass now.
        """
        steps = [piece(request.ask, 0, rows) for request, rows in asking]  # type: ignore[arg-type]
        try:
            hidden = self._pass(
                [(step, run, request.adapter) for step, (request, _) in zip(steps, asking, strict=True)
                 for run in request.runs]
            )  # (T, D)  # fmt: skip
        except Exception as error:
            if len(asking) == 1:
                return [(asking[0][0], error)]
            return [answer for one in asking for answer in self._forward([one])]  # only the one at fault fails
        through, start = [], 0
        for request, rows in asking:
            branches = len(request.runs)
            states = hidden[start : start + branches * rows].view(branches, rows, -1)
            start += branches * rows
            if (whole := request.passed(rows, states)) is not None:
                through.append((request, whole))
        return through

    def _pass(self, jobs: list[Job]) -> Tensor:
        """Rows of all jobs through the backbone, ``(T, D)``; if that fails, no run has grown."""
        lengths = [run.length for _, run, _ in jobs]
        segments = [(adapter, len(ask.rows)) for ask, _, adapter in jobs]
        alike = all(adapter is jobs[0][2] for _, _, adapter in jobs)
        try:
            with using(jobs[0][2] if alike else segments):
                return self._through(jobs)
        except BaseException:  # an interrupt, too: rows that nobody computed must not be found later
            for (_, run, _), length in zip(jobs, lengths, strict=True):
                self.pool.rollback(run, run.length - length)
            raise

    def _through(self, jobs: list[Job]) -> Tensor:
        intervals, slots = [], []
        for ask, run, _ in jobs:
            before = run.length
            slots.append(self.pool.append(run, len(ask.rows)))
            intervals.append(_intervals(ask, run, before))
        if len(jobs) == 1:
            ask = jobs[0][0]
            return self.backbone(
                ask.rows.to(self.dtype),
                ask.coordinates,
                intervals[0],
                cache=self.pool,
                slots=slice(*slots[0]),
            )
        return self.backbone(
            torch.cat([ask.rows for ask, _, _ in jobs]).to(self.dtype),
            torch.cat([ask.coordinates for ask, _, _ in jobs]),
            torch.cat(intervals),
            cache=self.pool,
            slots=torch.tensor([row for slot in slots for row in range(*slot)]),
        )


def _intervals(ask: Any, run: Run, before: int) -> Tensor:
    """``(n, 2, 2)``: the prefix of the run, and its own rows up to what each row may see."""
    n = len(ask.rows)
    low, high = run.prefix
    first = run.start + before
    if ask.sees is not None:
        seen = first + ask.sees.to(torch.int32)
    elif ask.look == "full":
        seen = torch.full((n,), first + n, dtype=torch.int32)
    elif n == 1:
        return torch.tensor([[[low, high], [run.start, first + 1]]], dtype=torch.int32)
    else:
        seen = torch.arange(first + 1, first + n + 1, dtype=torch.int32)
    intervals = torch.empty(n, 2, 2, dtype=torch.int32)
    intervals[:, 0, 0], intervals[:, 0, 1] = low, high
    intervals[:, 1, 0], intervals[:, 1, 1] = run.start, seen
    return intervals


def _rows(ask: Open | Step | Fork) -> int:
    """Of a request that begins."""
    return ask.planned.rows if isinstance(ask, Open) else len(ask.rows)


def _opened(requests: Sequence[Live]) -> list[Any]:
    """What each asks for, or what it fails with, from one call of the opener that they share."""
    prompts = [(request.ask.planned, request.runs[0].rows) for request in requests]  # type: ignore[union-attr]
    try:
        with using(requests[0].adapter):
            return list(requests[0].ask.opener.open_replies(prompts))  # type: ignore[union-attr]
    except Exception as error:
        if len(requests) == 1:
            return [error]
    return [_opened([request])[0] for request in requests]


def _check(ask: Step, width: int) -> None:
    if ask.rows.dim() != 2 or ask.rows.shape[1] != width or len(ask.rows) == 0:
        raise LayoutError(f"step: expected rows (n >= 1, {width}), got {tuple(ask.rows.shape)}")
    if tuple(ask.coordinates.shape) != (len(ask.rows), 3):
        raise LayoutError(f"step: expected coordinates ({len(ask.rows)}, 3), got {tuple(ask.coordinates.shape)}")
    if not finite(ask.rows):
        raise LayoutError("step: expected finite rows, got NaN or infinity; the component that made them is at fault")


def _full(pool: KVPool) -> str:
    return f"cache: all {pool.capacity} rows are in use; raise cache_rows, or lower the budgets"
