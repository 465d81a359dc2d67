from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from anyany.engine import Conversation, Done, Engine, SpanEnd, make_options
from anyany.heads.steps import Result, Step
from anyany.parts.messages import as_messages


@dataclass
class Told:
    """One request of a test's own engine, and all that was said."""

    events: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    talk: list[tuple[Step, Result]] = field(default_factory=list)
    live: Any = None

    @property
    def parts(self) -> list:
        return [e.content for e in self.events if isinstance(e, SpanEnd)]

    @property
    def done(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Done)

    def latents(self) -> list[torch.Tensor]:
        return [result.latents for _, result in self.talk if result.latents is not None]


def _listen(conversation: Generator, talk: list[tuple[Step, Result]]) -> Generator:
    answer = None
    try:
        while True:
            ask = conversation.send(answer)
            answer = yield ask
            if isinstance(ask, Step):
                talk.append((ask, answer))
    except StopIteration:
        return
    finally:
        conversation.close()


@pytest.fixture
def submit() -> Callable[..., Told]:
    """Puts a prompt into an engine, with options of its own."""

    def put(engine: Engine, model: Any, prompt: Any, *, seed: int = 0, host: Any = None, **options: Any) -> Told:
        told = Told()
        made = make_options(model.emits, model.generation, seed, options)
        draw = torch.Generator().manual_seed(seed)
        conversation = Conversation(host or model.host(), as_messages(prompt), made, draw, told.events.append)
        told.live = engine.submit(_listen(conversation.run(), told.talk), draw, told.errors.append)
        return told

    return put


def _same(a: list, b: list) -> None:
    """Parts are equal: text exactly, numbers to 1e-4 of the largest."""
    assert [type(x) for x in a] == [type(x) for x in b]
    for x, y in zip(a, b, strict=True):
        if isinstance(x, str):
            assert x == y
        else:
            scale = 1 + float(np.abs(y.readings).max())
            np.testing.assert_allclose(x.readings, y.readings, atol=1e-4 * scale, rtol=1e-4)


@pytest.fixture
def same() -> Callable[[list, list], None]:
    return _same
