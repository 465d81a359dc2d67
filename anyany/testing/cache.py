"""A component in the engine, row by row: the cache holds what one pass over the whole sequence computes.

Shapes: n rows of a document, D model width.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from anyany.engine import Engine
from anyany.heads.steps import Ask, Drop, EmitContext, Result, Sampling, Step
from anyany.model import Model
from anyany.model.assembly import embed, placed
from anyany.parts.messages import Message
from anyany.sequence import Layout, Span
from anyany.testing.compare import same
from anyany.testing.kit import demand
from anyany.testing.sequence import example
from anyany.testing.subject import Subject

ADVICE = "declare in prepare() the look and the coordinates of all rows, and change nothing between calls"
BUDGET = 5


def _row_by_row(subject: Subject) -> bool:
    """Spans that are denoised at once have no steps to compare."""
    return subject.decodes and getattr(subject.spec.latents, "objective", "") != "flow-span"  # type: ignore[union-attr]


def _talk(model: Model, talk: Generator[Ask, Result, Any]) -> None:
    """Have an engine of its own answer what is asked."""
    errors: list[BaseException] = []
    engine = Engine(model.backbone, rows=8192)
    engine.submit(talk, torch.Generator().manual_seed(0), errors.append)
    with torch.inference_mode():
        engine.run()
    if errors:
        raise errors[0]


def _document(model: Model) -> tuple[Tensor, Layout, Tensor]:
    """Rows ``(n, D)`` of a prompt with media in its midst, their layout, and their states in one pass ``(n, D)``."""
    document = model.planner.plan([Message("user", ("one", example(model), "two"))])
    with torch.inference_mode():
        rows = embed(model, placed([document])).rows
        layout = Layout.pack([document.spans], model.backbone.scheme)
        return rows, layout, model.backbone(rows, layout.coordinates, layout.intervals)


def _steps(rows: Tensor, layout: Layout) -> Iterator[Step]:
    """Single rows, but what looks both ways in one step."""
    for item in layout.spans:
        stop, start = item.start + item.span.rows, item.start
        edges = [*range(start, stop + 1)] if item.span.look == "causal" else [start, start + 1, stop - 1, stop]
        for a, b in pairwise(edges):
            if b > a:
                yield Step(rows[a:b], layout.coordinates[a:b], look=item.span.look)


@demand()
def cached_equals_uncached(subject: Subject) -> None:
    """Row by row through the cache, a prompt has the states that one pass gives it."""
    model = subject.model()
    rows, layout, wanted = _document(model)
    states: list[Tensor] = []

    def talk() -> Generator[Ask, Result, None]:
        for step in _steps(rows, layout):
            states.append((yield step).hidden[0])  # type: ignore[index]

    _talk(model, talk())
    same(torch.cat(states), wanted, "the states of one pass", ADVICE)


@demand()
def rollback_leaves_no_trace(subject: Subject) -> None:
    """Rows that are dropped from the cache and asked for again have the states that one pass gives them."""
    model = subject.model()
    rows, layout, wanted = _document(model)
    states: list[Tensor] = []

    def talk() -> Generator[Ask, Result, None]:
        for step in _steps(rows, layout):
            yield step
            yield Drop(len(step.rows))
            states.append((yield step).hidden[0])  # type: ignore[index]

    _talk(model, talk())
    same(torch.cat(states), wanted, "the states of one pass", ADVICE)


@demand(_row_by_row)
def step_by_step_equals_teacher_forced(subject: Subject) -> None:
    """While a part is generated, the states are those that training on the part gives."""
    model = subject.model()
    codec, head = next(iter(model.codecs.values())), next(iter(model.heads.values()))
    plan = codec.plan()
    plan = replace(plan, rows=min(plan.rows, BUDGET))
    if plan.coordinates is not None:
        plan = replace(plan, coordinates=replace(plan.coordinates, values=plan.coordinates.values[: plan.rows]))

    def span(count: int) -> Layout:
        lies = plan.coordinates and replace(plan.coordinates, values=plan.coordinates.values[:count])
        return Layout.pack(
            [[Span(component=subject.spec.id, view="latents", rows=count + 2, coordinates=lies)]], model.backbone.scheme
        )

    at = span(plan.rows).coordinates
    context = EmitContext(
        plan=plan, at=lambda start, stop: at[1 + start : 1 + stop], begin=at[:1], rule=Sampling(),
        push=lambda latents: None, draw=torch.Generator().manual_seed(0),
    )  # fmt: skip
    states: list[Tensor] = []
    made: list[Tensor] = []

    def talk() -> Generator[Ask, Result, None]:
        emission, answer = head.emit(context), None
        try:
            while True:
                ask = emission.send(answer)  # type: ignore[arg-type]
                answer = yield ask
                states.append(answer.hidden[0])  # type: ignore[index]
        except StopIteration as end:
            made.append(end.value)

    _talk(model, talk())
    (latents,) = made
    layout = span(len(latents))
    with torch.inference_mode():
        rows = torch.cat([head.begin[None], head.embed(latents), head.end[None]])
        wanted = model.backbone(rows, layout.coordinates, layout.intervals)[:-1]
    same(torch.cat(states), wanted, "the states of training", ADVICE)
