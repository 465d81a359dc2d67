"""The engine: many conversations over one backbone and one cache.

Each live request is a generator that asks for rows. One engine step collects the asks of all of them,
runs one packed forward, samples once per head, and sends the answers back. Requests are admitted and
cancelled between steps. A request that fails is closed, and its rows are freed; no other is touched.

Shapes: T packed rows of a step, D model width, G branches of a request (itself first).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from anyany.backbone import Backbone
from anyany.backbone.cache import KVPool, Run
from anyany.errors import CacheError, LayoutError
from anyany.heads.steps import Chunk, Drop, Fork, Join, Pick, Picked, Result, Step

Conversation = Generator[Any, Result, None]
FIRST_ROWS = 64


@dataclass(eq=False)
class Live:
    """One request in the engine.

    Attributes:
        conversation: The generator that asks.
        draw: Its random generator; nobody else draws from it.
        failed: Called with the exception when the request fails.
        runs: Its own run, then those of its branches.
        ask: The step that it waits for.
        steps: Engine steps in which it took part.
        cancelled: Closed before the next step.
    """

    conversation: Conversation
    draw: torch.Generator
    failed: Callable[[BaseException], None]
    runs: list[Run] = field(default_factory=list)
    ask: Step | None = None
    steps: int = 0
    cancelled: bool = False
    done: bool = False

    def cancel(self) -> None:
        """Close the request; its rows are free at the engine's next step."""
        self.cancelled = True


class Engine:
    """Runs conversations until each is done.

    Args:
        backbone: The decoder-only stack.
        rows: Capacity of the cache pool.
        max_live: Requests that run at once; the rest waits, in order.
    """

    def __init__(self, backbone: Backbone, *, rows: int = 16384, max_live: int = 64) -> None:
        self.backbone = backbone
        weight = next(backbone.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        self.pool: KVPool = backbone.new_pool(rows, device=weight.device, dtype=weight.dtype)
        self.max_live = max_live
        self.waiting: deque[Live] = deque()
        self.live: list[Live] = []

    def submit(
        self, conversation: Conversation, draw: torch.Generator, failed: Callable[[BaseException], None]
    ) -> Live:
        """Queue a request; it is admitted when the cache has room."""
        request = Live(conversation, draw, failed)
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
        asking = [request for request in self.live if request.ask is not None and self._room(request)]
        asking = [request for request in asking if not request.done]
        if not asking:
            if self.live and not any(r.done or r.cancelled for r in self.live):
                self._fail(self.live[-1], CacheError(_full(self.pool)))
            return
        hidden = self._forward(asking)
        answers = self._pick(asking, hidden)
        for request, states, answer in zip(asking, hidden, answers, strict=True):
            ask = request.ask
            if ask is None:
                continue
            if not ask.keep:
                for run in request.runs:
                    self.pool.rollback(run, len(ask.rows))
            if isinstance(answer, BaseException):
                self._fail(request, answer)
            else:
                self._advance(request, _result(states, answer))
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
        while self.waiting and len(self.live) < self.max_live:
            request = self.waiting[0]
            if request.ask is None and not request.done:
                self._advance(request, None)
            if request.done or request.cancelled:
                self.waiting.popleft()
                self._close(request)
                continue
            need = FIRST_ROWS + (len(request.ask.rows) if request.ask is not None else 0)
            if need > self.pool.capacity:
                self.waiting.popleft()
                self._fail(request, CacheError(f"prompt: needs {need} rows, the cache has {self.pool.capacity}"))
                continue
            try:
                request.runs = [self.pool.reserve(need)]
            except CacheError:
                if not self.live:
                    self.pool.compact()
                    request.runs = [self.pool.reserve(need)]
                else:
                    return
            self.live.append(self.waiting.popleft())

    def _room(self, request: Live) -> bool:
        """Make sure that the ask fits into the runs of the request; grow them by doubling."""
        ask = request.ask
        if ask is None:
            return False
        for run in request.runs:
            if run.length + len(ask.rows) <= run.capacity:
                continue
            try:
                self.pool.grow(run, max(2 * run.capacity, run.length + len(ask.rows)))
            except CacheError:
                if len(self.live) == 1:
                    self._fail(request, CacheError(_full(self.pool)))
                return False
        return True

    def _sweep(self) -> None:
        for request in self.live:
            if request.cancelled or request.done:
                self._close(request)
        if any(request.done for request in self.live):
            self.live = [request for request in self.live if not request.done]

    def _close(self, request: Live) -> None:
        request.conversation.close()
        request.done, request.ask = True, None
        for run in reversed(request.runs):
            self.pool.release(run)
        request.runs = []

    def _fail(self, request: Live, error: BaseException) -> None:
        self._close(request)
        request.failed(error)

    def _advance(self, request: Live, answer: Result | None) -> None:
        """Send an answer and take the next step; everything but a step is answered at once."""
        try:
            ask = next(request.conversation) if answer is None else request.conversation.send(answer)
            while not isinstance(ask, Step):
                self._serve(request, ask)
                ask = request.conversation.send(Result())
            _check(ask, self.backbone.width)
            request.ask = ask
        except StopIteration:
            request.done, request.ask = True, None
        except Exception as error:  # one failing request never harms another
            self._fail(request, error)

    def _serve(self, request: Live, ask: Drop | Fork | Join | Chunk) -> None:
        if isinstance(ask, Drop):
            for run in request.runs:
                self.pool.rollback(run, ask.n)
        elif isinstance(ask, Fork):
            self._fork(request, ask)
        elif isinstance(ask, Join):
            for run in reversed(request.runs[1:]):
                self.pool.release(run)
            request.runs = request.runs[:1]

    def _fork(self, request: Live, ask: Fork) -> None:
        parent = request.runs[0]
        share = parent.length if ask.share is None else ask.share
        capacity = len(ask.rows) + FIRST_ROWS
        branch = self.pool.fork(parent, share, capacity) if share else self.pool.reserve(capacity)
        request.runs.append(branch)
        if len(ask.rows):
            step = Step(ask.rows, ask.coordinates)
            self._pass([(step, branch)])

    # One packed forward.

    def _forward(self, asking: list[Live]) -> list[Tensor]:
        """Hidden states ``(G, n, D)`` of each asking request."""
        jobs = []
        for request in asking:
            request.steps += 1
            jobs.extend((request.ask, run) for run in request.runs)
        hidden = self._pass(jobs)  # (T, D)
        answers, start = [], 0
        for request in asking:
            branches, n = len(request.runs), len(request.ask.rows)  # type: ignore[union-attr]
            answers.append(hidden[start : start + branches * n].view(branches, n, -1))
            start += branches * n
        return answers

    def _pass(self, jobs: list[tuple[Any, Run]]) -> Tensor:
        """Rows of all jobs through the backbone: ``(T, D)``."""
        intervals, slots = [], []
        for ask, run in jobs:
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
            torch.cat([ask.rows for ask, _ in jobs]).to(self.dtype),
            torch.cat([ask.coordinates for ask, _ in jobs]),
            torch.cat(intervals),
            cache=self.pool,
            slots=torch.cat([torch.arange(*slot) for slot in slots]),
        )

    def _pick(self, asking: list[Live], hidden: list[Tensor]) -> list[Any]:
        """One sampling call per head; an answer is ``None``, ``(Picked, row)`` or an exception."""
        answers: list[Any] = [None] * len(asking)
        groups: dict[tuple[int, int], list[int]] = {}
        for index, request in enumerate(asking):
            if request.ask is not None and request.ask.pick is not None:
                key = (id(request.ask.pick.picker), len(hidden[index]))
                groups.setdefault(key, []).append(index)
        for members in groups.values():
            picks: list[Pick] = [asking[i].ask.pick for i in members]  # type: ignore[union-attr,misc]
            last = torch.stack([hidden[i][:, -1] for i in members])  # (B, G, D)
            finite = last.isfinite().flatten(1).all(dim=1).tolist()
            try:
                picked = picks[0].picker.pick(
                    last, [p.rule for p in picks], [asking[i].draw for i in members], [p.state for p in picks]
                )
            except Exception as error:
                if len(members) == 1:
                    answers[members[0]] = error
                else:
                    self._pick_alone(asking, hidden, members, answers)
                continue
            for row, index in enumerate(members):
                broken = LayoutError("hidden state: expected finite numbers, got NaN or infinity")
                answers[index] = (picked, row) if finite[row] else broken
        return answers

    def _pick_alone(self, asking: list[Live], hidden: list[Tensor], members: list[int], answers: list[Any]) -> None:
        """Find the request that broke the joint call, so that only it fails."""
        for index in members:
            pick: Pick = asking[index].ask.pick  # type: ignore[union-attr,assignment]
            try:
                last = hidden[index][None, :, -1]
                picked = pick.picker.pick(last, [pick.rule], [asking[index].draw], [pick.state])
                answers[index] = (picked, 0)
            except Exception as error:
                answers[index] = error


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


def _check(ask: Step, width: int) -> None:
    if ask.rows.dim() != 2 or ask.rows.shape[1] != width or len(ask.rows) == 0:
        raise LayoutError(f"step: expected rows (n >= 1, {width}), got {tuple(ask.rows.shape)}")
    if tuple(ask.coordinates.shape) != (len(ask.rows), 3):
        raise LayoutError(f"step: expected coordinates ({len(ask.rows)}, 3), got {tuple(ask.coordinates.shape)}")
    if not ask.rows.isfinite().all():
        raise LayoutError("step: expected finite rows, got NaN or infinity; the component that made them is at fault")


def _result(hidden: Tensor, answer: tuple[Picked, int] | None) -> Result:
    if answer is None:
        return Result(hidden)
    picked, row = answer
    return Result(
        hidden,
        latents=picked.latents[row],
        end=bool(picked.end[row]),
        logprob=None if picked.logprob is None else float(picked.logprob[row]),
        extra={name: value[row] for name, value in picked.extra.items()},
    )


def _full(pool: KVPool) -> str:
    return f"cache: all {pool.capacity} rows are in use; raise cache_rows, or lower the budgets"
