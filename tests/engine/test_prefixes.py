"""Prompts that begin like earlier ones take their rows from the cache, and answer as if they had not."""

from __future__ import annotations

import numpy as np
import pytest
from imu_plugin import Imu

from anyany.engine import Engine, Prefixes
from anyany.engine.opening import common, cuts, last_cut, token_content

LONG = "zqx wvk " * 5  # of letters that no token joins


def imu(seed: int, rows: int = 20) -> Imu:
    return Imu(np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32))


@pytest.fixture
def model(make_model):
    return make_model(kind="flow-span", fixed=True).eval()


def shared(model, rows: int = 1000, **options) -> Engine:
    return Engine(model.backbone, prefixes=Prefixes(model.backbone.new_pool(rows, debug=True)), **options)


def ask(submit, engine, model, prompt, seed=0, **options):
    return submit(engine, model, prompt, seed=seed, **{"want": ["text", "imu"], "max_new_tokens": 5, **options})


@pytest.fixture
def alone(model, submit):
    """Parts of a request in an engine of its own that shares nothing."""

    def run(prompt, seed=0, **options) -> list:
        engine = Engine(model.backbone, rows=1000)
        told = ask(submit, engine, model, prompt, seed, **options)
        engine.run()
        assert told.done, told.errors
        return told.parts

    return run


PROMPTS = [[LONG, imu(0), "one"], [LONG, imu(0), "two"], [LONG, imu(1)], [LONG, LONG], [LONG], [imu(0), LONG]]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_requests_that_begin_alike_share_rows_and_answer_the_same(model, submit, alone, same, guidance):
    engine, options = shared(model), {"guidance": {"imu": guidance}}
    for _ in range(2):
        told = [ask(submit, engine, model, p, i, **options) for i, p in enumerate(PROMPTS)]
        engine.run()
        for i, one in enumerate(told):
            assert one.done, one.errors
            same(one.parts, alone(PROMPTS[i], i, **options))
    again = [one.events[-1].usage for one in told]
    assert all(usage.shared_rows > usage.prompt_rows / 2 for usage in again)
    assert engine.pool.used == engine.prefixes.kept
    engine.prefixes.clear()
    assert engine.pool.used == 0


def test_a_span_that_looks_both_ways_is_shared_whole_or_not(model, submit):
    """A codec's picture of the user, whose rows see each other: prompts part in its midst, or behind it."""
    engine = shared(model)
    model.planner.encoders = {}
    for prompt in ([LONG, imu(0)], [LONG, imu(0), "one"], [LONG, imu(1)]):
        ask(submit, engine, model, prompt)
    engine.run()
    told = [ask(submit, engine, model, prompt) for prompt in ([LONG, imu(0), "two"], [LONG, imu(2)])]
    engine.run()
    words = len(model.planner.plan(_messages(LONG)).pieces[-2].ids)
    first, second = (one.events[-1].usage.shared_rows for one in told)
    assert second in range(words, words + 4)  # marks, the words, and perhaps the begin mark of the span
    assert first >= second + 20


def _messages(text):
    from anyany.parts.messages import as_messages

    return as_messages([text])


def test_the_next_turn_of_a_chat_takes_the_run(model, submit):
    engine = shared(model)
    first = ask(submit, engine, model, [LONG], want=["text"], max_new_tokens=9, temperature=0.0)
    engine.run()
    (run,) = (trail.run for trail in engine.prefixes._trails)
    chat = [
        {"role": "user", "content": LONG}, {"role": "assistant", "content": first.parts[0]},
        {"role": "user", "content": "and now?"},
    ]  # fmt: skip
    second = ask(submit, engine, model, chat, want=["text"], temperature=0.0)
    engine.step()
    assert second.live.runs == [run]
    engine.run()
    begun = first.events[-1].usage.prompt_rows
    assert second.events[-1].usage.shared_rows >= begun
    assert model.generate(chat, want=["text"], temperature=0.0, max_new_tokens=5).text == second.parts[0]


def test_those_that_ask_at_once_wait_for_the_first(model, submit, monkeypatch):
    passes, plain = [], model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda x, *a, **k: passes.append(len(x)) or plain(x, *a, **k))
    engine = shared(model)
    told = [ask(submit, engine, model, [LONG, word], want=["text"], max_new_tokens=1) for word in ("one", "two", "six")]
    other = ask(submit, engine, model, [imu(3), LONG], want=["text"], max_new_tokens=1)
    engine.step()
    assert [t.live in engine.live for t in (*told, other)] == [True, False, False, True]
    engine.step()
    engine.run()
    rows = [t.events[-1].usage for t in (*told, other)]
    assert [usage.shared_rows > 40 for usage in rows] == [False, True, True, False]
    assert passes[0] == rows[0].prompt_rows + rows[3].prompt_rows
    assert passes[1] < 30


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_whose_rows_others_see_may_be_cancelled(model, submit, alone, same, steps):
    engine = shared(model)
    gone = ask(submit, engine, model, [LONG, "one"], 1)
    stays = ask(submit, engine, model, [LONG, "two"], 2)
    for _ in range(steps):
        engine.step()
    gone.live.cancel()
    engine.run()
    same(stays.parts, alone([LONG, "two"], 2))
    engine.prefixes.clear()
    assert engine.pool.used == 0


def test_rows_of_a_request_that_failed_are_not_found(model, submit, monkeypatch):
    engine = shared(model)
    codec = model.codecs["imu/signs"]
    monkeypatch.setattr(codec, "decode", lambda *a, **k: 1 / 0)
    bad = ask(submit, engine, model, [LONG, "one"])
    engine.run()
    assert [type(error) for error in bad.errors] == [ZeroDivisionError]
    assert engine.pool.used == 0


def test_a_full_pool_forgets_before_anybody_waits(model, submit, alone, same):
    """Least recently used first; a request that needs nearly all rows gets them."""
    rows = model.generate([LONG], want=["text"], max_new_tokens=1).usage.prompt_rows
    engine = shared(model, rows=4 * rows + 90)
    for index, word in enumerate(("one", "two", "three", "four")):
        prompt = [word + " " + LONG]
        told = ask(submit, engine, model, prompt, index)
        engine.run()
        same(told.parts, alone(prompt, index))
        assert engine.pool.used <= engine.pool.capacity
    latest = ask(submit, engine, model, ["four " + LONG, "one"])
    engine.run()
    assert latest.events[-1].usage.shared_rows > rows - 5
    oldest = ask(submit, engine, model, ["one " + LONG, "one"])
    engine.run()
    assert oldest.events[-1].usage.shared_rows < 16
    whole = [LONG * 4]
    told = ask(submit, engine, model, whole)
    engine.run()
    same(told.parts, alone(whole))


def test_what_is_found_does_not_stand_in_its_own_way(model, submit, alone, same):
    """A prompt that shares rows with a run beside which it does not fit."""
    rows = model.generate([LONG], want=["text"], max_new_tokens=1).usage.prompt_rows
    engine = shared(model, rows=3 * rows)
    for prompt in ([LONG, "one two three four hello", "hello"], [LONG * 2 + "hello"]):
        told = ask(submit, engine, model, prompt, want=["text"])
        engine.run()
        same(told.parts, alone(prompt, want=["text"]))


def test_many_requests_in_a_small_pool(model, submit, alone, same):
    engine = shared(model, rows=330, max_live=5)
    jobs = [(PROMPTS[i % len(PROMPTS)], i) for i in range(14)]
    told = [ask(submit, engine, model, prompt, seed) for prompt, seed in jobs]
    for step in range(400):
        if step == 5:
            told[1].live.cancel()
        engine.step()
        if engine.idle:
            break
    assert engine.idle
    for one, (prompt, seed) in zip(told, jobs, strict=True):
        if one is not told[1]:
            assert one.done, one.errors
            same(one.parts, alone(prompt, seed))


def test_content_is_compared_row_by_row():
    a, b = token_content([1, 2, 3]), token_content([1, 2, 4, 5])
    assert (common(a, b), common(a, a), common(a, a[:2]), common(a, a[:0])) == (2, 3, 2, 0)


def test_cuts_are_where_nobody_sees_beyond():
    sees = np.array([1, 4, 4, 4, 5, 6, 8, 8])
    assert cuts(sees).tolist() == [1, 4, 5, 6, 8]
    assert [last_cut(cuts(sees), most) for most in range(9)] == [0, 1, 1, 1, 4, 5, 6, 6, 8]
