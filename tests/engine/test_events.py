"""What a caller sees of a reply: events, their order, how they end, and what closing does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imu_plugin import Imu

from anyany.engine import Chunk, Done, Engine, Interrupted, SpanEnd, SpanStart, TextDelta
from anyany.errors import AnyanyError, PromptError
from anyany.model import running
from anyany.plugin import Capabilities

IMU = Imu(np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]], np.float32))
PROMPT = ["hello", IMU]


@pytest.fixture
def engines(monkeypatch) -> list[Engine]:
    """The engines that calls of a test make."""
    made: list[Engine] = []
    plain = running._engine
    monkeypatch.setattr(running, "_engine", lambda *a: made.append(plain(*a)) or made[-1])
    return made


def well_formed(events: list) -> None:
    """Spans nest, indices rise by one, deltas lie inside and make up the part, ``Done`` comes last."""
    assert isinstance(events[-1], Done)
    assert not any(isinstance(e, Done | Interrupted) for e in events[:-1])
    open_part, following, text = None, 0, ""
    for event in events[:-1]:
        if isinstance(event, SpanStart):
            assert open_part is None
            assert event.part == following
            open_part, text = event, ""
            following += 1
            continue
        assert open_part is not None
        assert event.part == open_part.part
        if isinstance(event, TextDelta):
            assert open_part.modality == "text"
            assert event.text
            text += event.text
        elif isinstance(event, SpanEnd):
            assert event.finish in ("stop", "length", "stop_string")
            if open_part.modality == "text":
                assert event.content == text
                assert event.logprob <= 1e-6
            else:
                assert event.content.modality == open_part.modality
            open_part = None
    assert open_part is None


modalities = st.lists(st.sampled_from(["imu", "text"]), min_size=1, max_size=5).filter(
    lambda want: ("text", "text") not in pairwise(want)
)
limits = st.fixed_dictionaries(
    {"max_new_tokens": st.integers(0, 5), "temperature": st.sampled_from([0.0, 1.0, 4.0])},
    optional={"budgets": st.fixed_dictionaries({"imu": st.integers(1, 9)}), "stop": st.sampled_from([["e"], "l"])},
)
free = st.fixed_dictionaries(
    {"max_parts": st.integers(1, 4)},
    optional={"allow": st.sets(st.sampled_from(["imu", "text"]), min_size=1)},
)


@pytest.mark.parametrize(("kind", "fixed"), [("codes", False), ("flow", True), ("flow-span", True)])
def test_events_are_well_formed_whatever_is_asked_for(make_model, engines, kind, fixed):
    model = make_model(kind=kind, fixed=fixed, rows=4)

    @settings(max_examples=40, deadline=None)
    @given(limits, st.one_of(st.fixed_dictionaries({"want": modalities}), free), st.integers(0, 2**20))
    def check(bounds, what, seed):
        options = {**bounds, **what, "steps": {"imu": 2}, "seed": seed}
        events = list(model.stream(PROMPT, **options))
        well_formed(events)
        ends, starts = ([e for e in events if isinstance(e, kind)] for kind in (SpanEnd, SpanStart))
        for start, end in zip(starts, ends, strict=True):
            _within(start.modality, end, bounds, fixed)
        made = [s.modality for s in starts]
        if "want" in what:
            wanted = [m for m in what["want"] if m != "text" or bounds["max_new_tokens"]]
            stopped = events[-1].finish == "stop_string"
            assert made == (wanted[: len(made)] if stopped else wanted)
        else:
            assert len(made) <= what["max_parts"]
            assert set(made) <= what.get("allow", {"imu", "text"})
        assert events[-1].usage.rows.get("text", 0) <= bounds["max_new_tokens"] * made.count("text")
        assert engines[-1].pool.used == 0

    check()


def _within(modality: str, end: SpanEnd, bounds: dict, fixed: bool) -> None:
    if modality == "imu":
        budget = min(4, bounds.get("budgets", {}).get("imu", 4))
        rows = len(end.content.readings)
        assert 1 <= rows <= budget
        if fixed:
            assert rows == budget
            assert end.finish == ("length" if budget < 4 else "stop")
        elif rows < budget:
            assert end.finish == "stop"
        else:
            assert end.finish == "length"


def test_a_spent_text_budget_is_told(make_model):
    reply = make_model(modality=False).generate(["hello"], want=["text"], max_new_tokens=2, temperature=3.0, seed=1)
    assert reply.usage.rows == {"text": 2}
    assert reply.finish == "length"
    assert reply.finishes == ("length",)


def test_a_wanted_text_without_a_budget_is_left_out_and_told(make_model):
    reply = make_model().generate(PROMPT, want=["text", "imu", "text", "imu"], max_new_tokens=0)
    assert reply.modalities == ("imu", "imu")
    assert reply.finish == "length"
    assert make_model().generate(PROMPT, want=["text"], max_new_tokens=0).parts == ()


@pytest.mark.parametrize("seed", range(6))
def test_a_stop_string_across_token_borders(make_model, seed):
    model = make_model(modality=False)
    options = {"want": ["text"], "max_new_tokens": 12, "seed": seed, "temperature": 3.0}
    whole = model.generate(["hello"], **options).text
    if len(whole) < 6:
        return
    middle = len(whole) // 2
    for width in (1, 2, 3):
        stop = whole[middle - 1 : middle - 1 + width]
        cut = model.generate(["hello"], stop=stop, **options)
        assert cut.text == whole.split(stop)[0]
        assert cut.finish == "stop_string"
        assert cut.usage.steps <= 14
    events = list(model.stream(["hello"], stop=[stop, "never this"], **options))
    well_formed(events)
    assert model.generate(["hello"], stop="never this", **options).text == whole


def test_media_is_streamed_while_it_is_made(make_model):
    model = make_model(fixed=True)
    codec, spec = model.codecs["imu/signs"], model.decoders[0].spec
    codec.stream = lambda like: _Rows(codec)
    object.__setattr__(spec, "can", Capabilities(streaming=True))
    try:
        events = list(model.stream(PROMPT, want=["text", "imu"], max_new_tokens=1))
    finally:
        object.__setattr__(spec, "can", Capabilities())
    well_formed(events)
    chunks = [e.media.readings for e in events if isinstance(e, Chunk)]
    assert [len(c) for c in chunks] == [1] * 6 + [0]
    end = [e for e in events if isinstance(e, SpanEnd)][-1]
    np.testing.assert_array_equal(np.concatenate(chunks), end.content.readings)


class _Rows:
    """Streams each row as it comes, and an empty rest."""

    def __init__(self, codec) -> None:
        self.codec = codec

    def push(self, latents):
        return self.codec.decode(latents)

    def close(self):
        return Imu(np.zeros((0, 3), np.float32))


# Closing.


def test_closing_a_stream_cancels_the_request(make_model, engines):
    events = make_model().stream(PROMPT, want=["text", "imu"], max_new_tokens=50, temperature=3.0)
    assert isinstance(next(events), SpanStart)
    engine = engines[0]
    assert engine.pool.used > 0
    events.close()
    assert engine.pool.used == 0
    assert engine.idle
    with pytest.raises(StopIteration):
        next(events)


def test_a_failure_is_an_event_and_then_raised(make_model, engines, monkeypatch):
    model = make_model(fixed=True)
    monkeypatch.setattr(model.codecs["imu/signs"], "decode", lambda *a: 1 / 0)
    events = model.stream(PROMPT, want=["imu"])
    seen = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(_until_raised(events, seen))
    assert isinstance(seen[0], SpanStart)
    assert isinstance(seen[-1], Interrupted)
    assert isinstance(seen[-1].error, ZeroDivisionError)
    assert engines[0].pool.used == 0


def _until_raised(events, seen: list) -> list:
    for event in events:
        seen.append(event)
    return []


@pytest.mark.parametrize("use", [lambda m: m.stream([]), lambda m: m.generate([]), lambda m: m.generate_batch([[]])])
def test_a_bad_prompt_is_raised_by_the_call(make_model, use):
    with pytest.raises(PromptError):
        use(make_model())


def test_errors_are_raised_after_all_are_done_or_returned_in_place(make_model):
    model, options = make_model(), {"want": ["text"], "max_new_tokens": 2}
    replies = model.generate_batch([["one"], [], ["two"]], errors="return", **options)
    assert isinstance(replies[1], PromptError)
    assert replies[0].text == model.generate(["one"], **options).text
    assert replies[2].text == model.generate(["two"], seed=2, **options).text
    with pytest.raises(PromptError):
        model.generate_batch([["one"], [], ["two"]], **options)
    with pytest.raises(AnyanyError, match="errors"):
        model.generate_batch([["one"]], errors="ignore")


# asyncio.


def run(main: Callable) -> object:
    return asyncio.run(asyncio.wait_for(main(), 60))


def test_the_async_stream_tells_the_same(make_model, engines):
    model, options = make_model(), {"want": ["text", "imu"], "max_new_tokens": 4, "seed": 3}

    async def main():
        return [event async for event in model.stream_async(PROMPT, **options)]

    mine, theirs = run(main), list(model.stream(PROMPT, **options))
    assert [type(e) for e in mine] == [type(e) for e in theirs]
    assert [e for e in mine if isinstance(e, TextDelta)] == [e for e in theirs if isinstance(e, TextDelta)]
    assert engines[0].pool.used == 0


def test_an_async_failure_is_raised(make_model, monkeypatch):
    model = make_model(fixed=True)
    monkeypatch.setattr(model.codecs["imu/signs"], "decode", lambda *a: 1 / 0)

    async def main():
        with pytest.raises(ZeroDivisionError):
            async for _ in model.stream_async(PROMPT, want=["imu"]):
                pass

    run(main)


def test_leaving_an_async_stream_closes_the_request(make_model, engines):
    async def main():
        events = make_model().stream_async(PROMPT, want=["text"], max_new_tokens=50, temperature=3.0)
        async for _ in events:
            break
        await events.aclose()
        return engines[0].pool.used

    assert run(main) == 0


def test_cancelling_the_task_in_the_middle_of_a_step_closes_the_request(make_model, engines, monkeypatch):
    model = make_model()
    inside, release = threading.Event(), threading.Event()
    plain = Engine.step

    def step(self):
        plain(self)
        inside.set()
        release.wait(30)

    monkeypatch.setattr(Engine, "step", step)

    async def main():
        async def consume():
            async for _ in model.stream_async(PROMPT, want=["text"], max_new_tokens=50, temperature=3.0):
                pass

        task = asyncio.create_task(consume())
        await asyncio.to_thread(inside.wait, 30)
        assert engines[0].pool.used > 0
        task.cancel()
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    assert engines[0].idle
    assert engines[0].pool.used == 0
