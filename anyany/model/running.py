"""Requests of one call through an engine of their own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import torch

from anyany.backbone.memory_order import order_by_rows, order_for_decoding
from anyany.backbone.native import suits
from anyany.engine import (
    Conversation,
    Engine,
    Event,
    Interrupted,
    Live,
    Options,
    make_options,
)
from anyany.engine.request import MAX_SEED, whole
from anyany.errors import PromptError, RequestError
from anyany.model.adapters import NONE
from anyany.model.reply import Reply
from anyany.parts.messages import as_messages

if TYPE_CHECKING:
    from anyany.model.model import Host, Model

CACHE_ROWS = 16384
MAX_ROWS = 1 << 24
MAX_LIVE = 64


class Request:
    """One prompt in an engine, and the events that it has published."""

    def __init__(self, engine: Engine, host: Host, prompt: Any, options: Options) -> None:
        self.events: deque[Event] = deque()
        self.error: BaseException | None = None
        draw = torch.Generator(device="cpu").manual_seed(options.seed)
        conversation = Conversation(host, as_messages(prompt), options, draw, self.events.append)
        adapter = host.model.adapters.chosen(options.adapter)
        self.live: Live = engine.submit(conversation.run(), draw, self._failed, adapter)

    def _failed(self, error: BaseException) -> None:
        self.error = error
        self.events.append(Interrupted(error))

    def reply(self) -> Reply:
        """The whole reply, once the request is done."""
        return Reply.collect(self.events)


class _Engine(Engine):
    """An engine of one call; what its requests leave in the cache is kept for the next."""

    def __init__(self, model: Model, rows: int, max_live: int) -> None:
        self.caches, self.lent = model.caches, model.caches.lend(model, rows)
        prefixes = None if self.lent is None else self.lent.prefixes
        super().__init__(model.backbone, rows=rows, max_live=max_live, prefixes=prefixes)

    def step(self) -> None:
        """As of any engine; what an exception leaves half done is not kept."""
        try:
            super().step()
        except BaseException:
            self.lent = None
            raise

    def close(self) -> None:
        """As of any engine; the pool goes back."""
        super().close()
        if self.lent is not None:
            self.caches.give_back(self.lent)
            self.lent = None


def _engine(model: Model, options: dict[str, Any], adapters: Sequence[Any]) -> Engine:
    if not model.training:
        _order(model, native=all(name in (None, NONE) for name in adapters) and suits(model.backbone))
    rows, live = options.pop("cache_rows", CACHE_ROWS), options.pop("max_live", MAX_LIVE)
    return _Engine(model, whole("cache_rows", rows, 1, MAX_ROWS), whole("max_live", live, 1, MAX_ROWS))


def _order(model: Model, *, native: bool) -> None:
    """Matrices as whoever multiplies with them reads them: the native library by rows."""
    if not native:
        order_for_decoding(model.matrices())
        return
    read = list(model.step_matrices())
    order_by_rows(read)
    known = {id(matrix) for matrix in read}
    order_for_decoding(matrix for matrix in model.matrices() if id(matrix) not in known)


def _adapters(given: Any, count: int) -> list[Any]:
    """The adapter of each of so many prompts; one stands for all."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        return [given] * count
    if len(given) != count:
        raise RequestError(f"adapter: expected one name, or one for each of {count} prompts, got {len(given)}")
    return list(given)


def generate_batch(
    model: Model, prompts: Sequence[Any], *, seed: int, errors: str, options: Mapping[str, Any]
) -> list[Any]:
    """See ``Model.generate_batch``."""
    if errors not in ("raise", "return"):
        raise RequestError(f"errors: expected 'raise' or 'return', got {errors!r}")
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise PromptError(f"prompts: expected a list of prompts, got {type(prompts).__name__}")
    seed, options = whole("seed", seed, 0, MAX_SEED - len(prompts)), dict(options)
    names = _adapters(options.pop("adapter", None), len(prompts))
    engine = _engine(model, options, names)
    host = model.host(engine.pool.capacity)
    outcomes: list[Any] = []
    with torch.inference_mode(), closing(engine):
        for index, prompt in enumerate(prompts):
            try:
                made = make_options(model.emits, model.generation, seed + index, {**options, "adapter": names[index]})
                outcomes.append(Request(engine, host, prompt, made))
            except Exception as error:
                if errors == "raise":
                    raise
                outcomes.append(error)
        engine.run()
    results = [o if isinstance(o, BaseException) else (o.error or o.reply()) for o in outcomes]
    if errors == "raise":
        for result in results:
            if isinstance(result, BaseException):
                raise result
    return results


def stream(model: Model, prompt: Any, *, seed: int, options: Mapping[str, Any]) -> Iterator[Event]:
    """See ``Model.stream``."""
    sizes = {name: options[name] for name in ("cache_rows", "max_live") if name in options}
    made = make_options(model.emits, model.generation, seed, {k: v for k, v in options.items() if k not in sizes})
    engine = _engine(model, sizes, [options.get("adapter")])
    host = model.host(engine.pool.capacity)
    request = Request(engine, host, prompt, made)
    return _events(engine, request)


def _events(engine: Engine, request: Request) -> Iterator[Event]:
    try:
        while True:
            while request.events:
                event = request.events.popleft()
                yield event
                if isinstance(event, Interrupted) and event.error is not None:
                    raise event.error
            if engine.idle:
                return
            with torch.inference_mode():
                engine.step()
    finally:
        engine.close()


async def stream_async(model: Model, prompt: Any, *, seed: int, options: Mapping[str, Any]) -> AsyncIterator[Event]:
    """See ``Model.stream_async``."""
    events = stream(model, prompt, seed=seed, options=options)
    end = object()
    step: asyncio.Future[Any] | None = None
    try:
        while True:
            step = asyncio.ensure_future(asyncio.to_thread(next, events, end))
            event = await asyncio.shield(step)
            if event is end:
                return
            yield event
    finally:
        if step is not None and not step.done():
            await asyncio.gather(step, return_exceptions=True)  # no thread can be stopped: its step ends first
        events.close()  # type: ignore[attr-defined]
