"""One request as a generator: the prompt, then text and media in the order that the model chooses.

When the text head picks a modality's begin mark, that modality's head emits in the same request; when
it is done, its end mark goes in and text goes on. What was made stays in the context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from anyany.engine.events import Chunk, Done, Event, SpanEnd, SpanStart, TextDelta, Usage
from anyany.engine.opening import Open, Opening, Planned, token_content
from anyany.engine.request import Options
from anyany.engine.text_stream import TextStream
from anyany.errors import LayoutError
from anyany.heads.base import Head
from anyany.heads.steps import EmitContext, Pick, Result, Sampling, Step
from anyany.heads.text import TextPicker, TextState
from anyany.parts import Media
from anyany.plugin.components import Codec, Plan
from anyany.sequence import PositionScheme, Span, place


@dataclass(frozen=True)
class Emitter:
    """How one modality leaves the sequence."""

    modality: str
    codec: Codec
    head: Head
    streaming: bool
    quantiles: bool = False


class Host(Protocol):
    """What a conversation needs of a model."""

    picker: TextPicker
    emitters: Sequence[Emitter]
    ends: frozenset[int]
    tokens: int
    scheme: PositionScheme

    def plan_reply(self, messages: Any) -> Planned:
        """Plan a prompt, with the reply opened."""

    def open_replies(self, prompts: Sequence[tuple[Planned, int]]) -> Sequence[Opening]:
        """Rows of each prompt, without so many of its first rows."""

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Token ids ``(n,)`` -> rows ``(n, D)``."""

    def bare(self) -> Tensor:
        """Rows ``(n, D)`` of an opened reply without a prompt: the branch of guidance."""

    def text_stream(self) -> Any:
        """A decoder of token ids, one at a time."""


class Conversation:
    """State of one reply. ``run()`` is the generator that the engine drives."""

    def __init__(
        self,
        host: Host,
        messages: Any,
        options: Options,
        draw: torch.Generator,
        publish: Callable[[Event], None],
    ) -> None:
        self.host, self.messages, self.options = host, messages, options
        self.draw, self.publish = draw, publish
        self.base = 0.0
        self.latest: dict[str, Media] = {}
        self.parts = 0
        self.want = options.want
        self.seen: Tensor | None = None  # of the vocabulary and the begin marks, for the repetition penalty
        self.spoken = 0  # tokens of the text part that is open
        self.rows: dict[str, int] = {}
        self.steps = 0
        self.logprob: float | None = None  # of what heads sampled since it was last cleared
        self.finish = "stop"
        self._states: dict[Any, TextState] = {}

    def run(self) -> Generator[Any, Any, None]:
        """Ask, be answered, publish events, end; counts steps and log-probabilities on the way."""
        asks, answer = self._reply(), None
        try:
            while True:
                ask = asks.send(answer)
                self.steps += isinstance(ask, Step)
                answer = yield ask
                if isinstance(answer, Result) and answer.logprob is not None:
                    self.logprob = (self.logprob or 0.0) + answer.logprob
        except StopIteration:
            return
        finally:
            asks.close()

    def _reply(self) -> Generator[Any, Any, None]:
        started = time.perf_counter()
        opening: Opening = yield Open(self.host, self.host.plan_reply(self.messages))
        self.base, self.latest = opening.base, dict(opening.latest)
        if self.want is not None and "text" in self.want and self.options.max_new_tokens == 0:
            self.want, self.finish = tuple(m for m in self.want if m != "text"), "length"
        if self.options.rule("text").repetition_penalty != 1.0:
            calls = self.host.picker.calls
            self.seen = torch.zeros(self.host.picker.head.vocab + len(calls), dtype=torch.bool, device=calls.device)
        following: Result | None = yield Step(
            opening.rows, opening.coordinates, sees=opening.sees, pick=self._pick(fresh=True)
        )
        while following is not None:
            choice = int(following.latents)  # type: ignore[arg-type]
            if choice in self.host.ends:
                break
            if choice < self.host.picker.head.vocab:
                following = yield from self._text(choice, following.logprob)
            else:
                emitter = self.host.emitters[choice - self.host.picker.head.vocab]
                following = yield from self._media(emitter, following.logprob)
        usage = Usage(
            prompt_rows=opening.before + len(opening.rows), shared_rows=opening.before, rows=dict(self.rows),
            steps=self.steps, seconds=time.perf_counter() - started,
        )  # fmt: skip
        self.publish(Done(self.finish, usage))

    # Text.

    def _text(self, token: int, logprob: float | None) -> Generator[Any, Result, Result | None]:
        """Text until the model picks something else; returns that pick, or ``None`` at the end."""
        part, stream = self._start("text"), TextStream(self.host.text_stream(), self.options.stop)
        total, finish, self.spoken = 0.0, "stop", 0
        while True:
            total += logprob or 0.0
            if self.seen is not None:
                self.seen[token] = True
            self.spoken += 1
            self.rows["text"] = self.rows.get("text", 0) + 1
            if delta := stream.push(token):
                self.publish(TextDelta(part, delta))
            spent = self.spoken >= self.options.max_new_tokens
            result = yield self._feed_token(token, pick=not stream.stopped)
            if stream.stopped:
                self.finish = finish = "stop_string"
                break
            choice = int(result.latents)  # type: ignore[arg-type]
            if choice >= self.host.picker.head.vocab or choice in self.host.ends:
                if spent:
                    finish = "length"
                break
            token, logprob = choice, result.logprob
        if delta := stream.close():
            self.publish(TextDelta(part, delta))
        self.publish(SpanEnd(part, stream.text, finish, total))
        if finish == "length":
            self.finish = "length"
        return None if stream.stopped or self._done() else result

    def _feed_token(self, token: int, *, pick: bool) -> Step:
        rows = self.host.embed_ids(torch.tensor([token], device=self.host.picker.calls.device))
        coordinates = torch.full((1, 3), self.base)
        self.base += 1
        said = self._pick(fresh=False) if pick else None
        return Step(rows, coordinates, pick=said, content=token_content([token]))

    # Media.

    def _media(self, emitter: Emitter, begun: float | None) -> Generator[Any, Result, Result | None]:
        """One span of a modality, from its begin mark (of log-probability ``begun``) to its end mark."""
        name, like = emitter.modality, self.latest.get(emitter.modality)
        part, plan = self._start(name), emitter.codec.plan(like)
        budget = min(plan.rows, self.options.budgets.get(name, plan.rows))
        stream = emitter.codec.stream(like) if emitter.streaming else None  # type: ignore[attr-defined]

        def push(latents: Tensor) -> None:
            _finite(name, latents)
            if stream is not None and (media := stream.push(latents)) is not None:
                self.publish(Chunk(part, media))

        context = self._context(emitter, plan, budget, push)
        self.logprob = None
        latents = yield from emitter.head.emit(context)
        _finite(name, latents)
        total = None if self.logprob is None else self.logprob + (begun or 0.0)
        count = len(latents)
        self.rows[name] = self.rows.get(name, 0) + count
        if stream is not None and (media := stream.close()) is not None:
            self.publish(Chunk(part, media))
        known = {"quantiles": torch.stack(context.extra["quantiles"])} if emitter.quantiles else {}
        media = emitter.codec.decode(latents, like, **known)
        self.latest[name] = media
        cut = count < plan.rows if plan.fixed else count >= budget
        finish = "length" if cut else "stop"
        if cut:
            self.finish = "length"
        self.publish(SpanEnd(part, media, finish, total))
        coordinates, self.base = self._place(emitter, plan, count)
        last = self._done()
        result = yield Step(emitter.head.end[None], coordinates[-1:], pick=None if last else self._pick(fresh=True))
        return None if last else result

    def _place(self, emitter: Emitter, plan: Plan, count: int) -> tuple[Tensor, float]:
        coordinates = plan.coordinates
        if coordinates is not None:
            coordinates = replace(coordinates, values=coordinates.values[:count])
        span = Span(component=emitter.modality, view="latents", rows=count + 2, coordinates=coordinates)
        placed, base = place(span, self.base, self.host.scheme)
        return torch.as_tensor(placed), base

    def _context(self, emitter: Emitter, plan: Plan, budget: int, push: Callable[[Tensor], None]) -> EmitContext:
        placed, _ = self._place(emitter, plan, plan.rows)
        rule: Sampling = self.options.rule(emitter.modality)
        unconditional = None
        if rule.guidance != 1.0:
            bare = self.host.bare()
            at = self.base - len(bare) + torch.arange(len(bare), dtype=torch.float32)
            unconditional = (bare, at[:, None].expand(-1, 3).contiguous())
        return EmitContext(
            plan=replace(plan, rows=budget),
            at=lambda start, stop: placed[1 + start : 1 + stop],
            begin=placed[:1],
            rule=rule,
            push=push,
            draw=self.draw,
            unconditional=unconditional,
        )

    # What may come next.

    def _start(self, modality: str) -> int:
        part = self.parts
        self.parts += 1
        self.publish(SpanStart(part, modality))
        return part

    def _done(self) -> bool:
        """Whether no further part may come."""
        return self.parts >= (self.options.max_parts if self.want is None else len(self.want))

    def _pick(self, *, fresh: bool) -> Pick:
        """``fresh``: a part has just ended, or nothing has been said; otherwise text is open."""
        emits = {emitter.modality for emitter in self.host.emitters}
        budget = self.options.max_new_tokens > (0 if fresh else self.spoken)
        if self.want is None:
            allow = {"text", *emits} if self.options.allow is None else self.options.allow
            begins = allow & emits if self.parts < self.options.max_parts else frozenset()
            text = budget and "text" in allow
            end = not fresh or self.parts > 0
        else:
            upcoming = self.want[self.parts] if self.parts < len(self.want) else None
            begins = emits & {upcoming}
            text = budget and (not fresh or upcoming == "text")
            end = upcoming is None
        end = end or not (text or begins)
        state = self._state(text, end, frozenset(begins), fresh)
        return Pick(self.host.picker, self.options.rule("text"), state)

    def _state(self, text: bool, end: bool, begins: frozenset[str], fresh: bool) -> TextState:
        """What may be picked; made once per combination and request."""
        key = (text, end, begins, fresh)
        if key not in self._states:
            vocab, device = self.host.picker.head.vocab, self.host.picker.calls.device
            mask = torch.zeros(vocab + len(self.host.emitters), dtype=torch.bool)
            mask[: self.host.tokens] = text
            mask[sorted(self.host.ends)] = end
            for index, emitter in enumerate(self.host.emitters):
                mask[vocab + index] = emitter.modality in begins
            # Without ``want`` a modality that is not allowed counts for nothing, as if it were not installed.
            leaving = None if fresh or self.want is None else self._leaving(end, begins)
            self._states[key] = TextState(
                mask.to(device), self.seen, None if leaving is None else torch.tensor(leaving, device=device)
            )
        return self._states[key]

    def _leaving(self, end: bool, begins: frozenset[str]) -> list[int] | None:
        """The mark with which the text may end, then those which mean the same but are ruled out here."""
        vocab = self.host.picker.head.vocab
        marks = {vocab + index: emitter.modality in begins for index, emitter in enumerate(self.host.emitters)}
        marks |= dict.fromkeys(sorted(self.host.ends), end)
        out = [mark for mark, may in marks.items() if not may]
        # The end, where it may be picked; else the one modality that must follow.
        stands = next((mark for mark in reversed(marks) if marks[mark]), None)
        return [stands, *out] if out and stands is not None else None


def _finite(name: str, latents: Tensor) -> None:
    if latents.is_floating_point() and not bool(latents.isfinite().all()):
        raise LayoutError(f"{name}: expected finite latents, got NaN or infinity; the head that made them is at fault")
