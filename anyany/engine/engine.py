"""The engine: many conversations over one backbone and one cache.

Each live request is a generator that asks for rows. One engine step collects the asks of all of them,
runs one packed forward, samples once per head, and sends the answers back. Requests are admitted and
cancelled between steps. A request that fails is closed, and its rows are freed; no other is touched.

Shapes: T packed rows of a step, D model width, G branches of a request (itself first).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from anyany.backbone import Backbone
from anyany.backbone.cache import KVPool, Run
from anyany.backbone.lora import LoRA, using
from anyany.errors import CacheError, LayoutError
from anyany.heads.steps import Drop, Fork, Join, Pick, Picked, Result, Step

Conversation = Generator[Any, Result, None]
FIRST_ROWS = 64
Job = tuple[Step, Run, LoRA | None]
"""Rows that go through the backbone: where they go in the cache, and with which adapter."""


@dataclass(eq=False)
class Live:
    """One request in the engine.

    Attributes:
        conversation: The generator that asks.
        draw: Its random generator; nobody else draws from it.
        failed: Called with the exception when the request fails.
        adapter: What its rows go through beside the weights.
        runs: Its own run, then those of its branches.
        ask: The step, or the branch, that it waits for.
        steps: Engine steps in which it took part.
        cancelled: Closed before the next step.
    """

    conversation: Conversation
    draw: torch.Generator
    failed: Callable[[BaseException], None]
    adapter: LoRA | None = None
    runs: list[Run] = field(default_factory=list)
    ask: Step | Fork | None = None
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
        hidden = self._forward(asking) if asking else []
        answers = self._pick(asking, hidden)
        for request, states, answer in zip(asking, hidden, answers, strict=True):
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
        while self.waiting and len(self.live) < self.max_live:
            request = self.waiting[0]
            if request.ask is None and not request.cancelled:
                self._advance(request, None)
            if request.ask is None or request.cancelled:
                self._close(self.waiting.popleft())
                continue
            rows, capacity = len(request.ask.rows), self.pool.capacity
            if rows > capacity:
                self.waiting.popleft()
                self._fail(request, CacheError(f"prompt: needs {rows} rows, the cache has {capacity}; shorten it"))
                continue
            try:
                request.runs = [self.pool.reserve(min(rows + FIRST_ROWS, capacity))]
            except CacheError:
                return  # until a live request is done
            self.live.append(self.waiting.popleft())

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

    def _close(self, request: Live) -> None:
        request.done, request.ask = True, None
        try:
            request.conversation.close()
        except Exception as error:  # its own clean-up is at fault; its rows are freed all the same
            request.failed(error)
        for run in reversed(request.runs):
            self.pool.release(run)
        request.runs = []

    def _fail(self, request: Live, error: BaseException) -> None:
        self._close(request)
        request.failed(error)

    def _answer(self, request: Live, states: Tensor | Exception, answer: Any) -> None:
        """Hand a request what it asked for, or its own failure."""
        ask: Step = request.ask  # type: ignore[assignment]
        if isinstance(states, Exception):
            self._fail(request, states)
            return
        if not ask.keep:
            for run in request.runs:
                self.pool.rollback(run, len(ask.rows))
        if isinstance(answer, Exception):
            self._fail(request, answer)
        else:
            self._advance(request, Result(states, **answer))

    def _advance(self, request: Live, answer: Result | None, *, again: Fork | None = None) -> None:
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

    def _exchange(self, request: Live, answer: Result | None, again: Fork | None) -> None:
        ask: Any = again or request.conversation.send(answer)  # type: ignore[arg-type]
        while not isinstance(ask, Step):
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
            self._pass([(step, branch, request.adapter)])

    # One packed forward.

    def _forward(self, asking: list[Live]) -> list[Any]:
        """Hidden states ``(G, n, D)`` of each asking request, or what it failed with."""
        try:
            hidden = self._pass(
                [(request.ask, run, request.adapter) for request in asking for run in request.runs]
            )  # (T, D)
        except Exception as error:
            if len(asking) == 1:
                return [error]
            return [self._forward([request])[0] for request in asking]  # only the one at fault fails
        answers, start = [], 0
        for request in asking:
            branches, n = len(request.runs), len(request.ask.rows)  # type: ignore[union-attr]
            answers.append(hidden[start : start + branches * n].view(branches, n, -1))
            start += branches * n
            request.steps += 1
        return answers

    def _pass(self, jobs: list[Job]) -> Tensor:
        """Rows of all jobs through the backbone, ``(T, D)``; if that fails, no run has grown."""
        lengths = [run.length for _, run, _ in jobs]
        segments = [(adapter, len(ask.rows)) for ask, _, adapter in jobs]
        alike = all(adapter is jobs[0][2] for _, _, adapter in jobs)
        try:
            with using(jobs[0][2] if alike else segments):
                return self._through(jobs)
        except Exception:
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

    def _pick(self, asking: list[Live], hidden: list[Any]) -> list[Any]:
        """One sampling call per head and adapter; an answer is fields of a ``Result``, if any, or an exception."""
        answers: list[Any] = [{}] * len(asking)
        groups: dict[tuple[int, int, int], list[int]] = {}
        for index, request in enumerate(asking):
            if isinstance(hidden[index], Tensor) and request.ask is not None and request.ask.pick is not None:
                key = (id(request.ask.pick.picker), id(request.adapter), len(hidden[index]))
                groups.setdefault(key, []).append(index)
        for members in groups.values():
            last = torch.stack([hidden[i][:, -1] for i in members])  # (B, G, D)
            finite = [True] * len(last) if _finite(last) else [_finite(row) for row in last]
            for index in (i for i, whole in zip(members, finite, strict=True) if not whole):
                answers[index] = LayoutError("hidden state: expected finite numbers, got NaN or infinity")
            whole = [i for i, ok in zip(members, finite, strict=True) if ok]
            picked = _sample([asking[i] for i in whole], last if all(finite) else last[finite])
            for index, answer in zip(whole, picked, strict=True):
                answers[index] = answer
        return answers


def _sample(requests: list[Live], last: Tensor) -> list[Any]:
    """One call of the head, and with the adapter, that B requests share, on ``(B, G, D)``; if it fails, each alone."""
    if not requests:
        return []
    picks: list[Pick] = [request.ask.pick for request in requests]  # type: ignore[union-attr,misc]
    draws = [request.draw for request in requests]
    before = [draw.get_state() for draw in draws]
    try:
        with using(requests[0].adapter):
            picked = picks[0].picker.pick(last, [p.rule for p in picks], draws, [p.state for p in picks])
        if not len(picked.latents) == len(picked.end) == len(requests):
            raise LayoutError(f"head: expected samples for {len(requests)} requests, got {len(picked.latents)}")
        return _apart(picked)
    except Exception as error:
        if len(requests) == 1:
            return [error]
    for draw, state in zip(draws, before, strict=True):
        draw.set_state(state)  # what the failed call drew does not count
    return [_sample([request], last[row : row + 1])[0] for row, request in enumerate(requests)]


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
    if not _finite(ask.rows):
        raise LayoutError("step: expected finite rows, got NaN or infinity; the component that made them is at fault")


def _finite(x: Tensor) -> bool:
    """Whether all numbers are finite; a sum that is tells at a fifth of the cost."""
    return math.isfinite(x.sum().item()) or bool(x.isfinite().all())


def _apart(picked: Picked) -> list[dict[str, Any]]:
    """What a head sampled, request by request: fields of its ``Result``."""
    count = len(picked.latents)
    logprobs = [None] * count if picked.logprob is None else picked.logprob.tolist()
    each = zip(picked.latents.unbind(), picked.end.tolist(), logprobs, strict=True)
    return [
        {"latents": z, "end": end, "logprob": p, "extra": {name: v[row] for name, v in picked.extra.items()}}
        for row, (z, end, p) in enumerate(each)
    ]


def _full(pool: KVPool) -> str:
    return f"cache: all {pool.capacity} rows are in use; raise cache_rows, or lower the budgets"
