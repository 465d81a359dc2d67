"""Requests beside each other: none notices another, whether that one runs, is cancelled, fails or waits."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from imu_plugin import Imu

from anyany.engine import Engine, SpanEnd
from anyany.errors import AnyanyError, CacheError

IMU = Imu(np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]], np.float32))
KINDS = ["codes", "books", "regression", "embedding", "flow", "flow-span"]
MIXED = [  # a prompt, its seed, and options that no other request has
    (["one"], {"want": ["text", "imu"], "max_new_tokens": 4, "temperature": {"text": 0.0}}),
    (["hello", IMU], {"want": ["imu", "imu"], "steps": {"imu": 3}}),
    ([IMU, IMU], {"max_new_tokens": 6, "max_parts": 3, "temperature": 2.0}),
    (["what is this?", IMU], {"want": ["text"], "max_new_tokens": 9, "top_k": 5, "repetition_penalty": 1.5}),
    (["two three"], {"want": ["imu", "text"], "guidance": {"imu": 2.0}, "max_new_tokens": 2, "steps": {"imu": 13}}),
    ([IMU], {"allow": {"imu"}, "max_parts": 2, "budgets": {"imu": 2}}),
    (["four"], {"want": ["text", "imu", "text"], "max_new_tokens": 3, "top_p": 0.5}),
    (["hello world"], {"allow": {"text"}, "max_new_tokens": 12, "stop": ["a"]}),
]


def alone(submit, model, index: int) -> list:
    engine = Engine(model.backbone, rows=1024)
    prompt, options = MIXED[index]
    told = submit(engine, model, prompt, seed=index, **options)
    engine.run()
    assert told.done, told.errors
    return told.parts


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_alone_is_the_same_among_seven_others(make_model, submit, kind, same):
    model = make_model(kind=kind, fixed=kind == "flow-span")
    engine, host = Engine(model.backbone, rows=4096), model.host()
    together = [submit(engine, model, p, seed=i, host=host, **o) for i, (p, o) in enumerate(MIXED)]
    engine.run()
    for index, told in enumerate(together):
        assert told.done, told.errors
        same(told.parts, alone(submit, model, index))
    assert engine.pool.used == 0


def test_requests_are_admitted_while_others_run(make_model, submit, same):
    model = make_model()
    engine, host = Engine(model.backbone, rows=4096), model.host()
    told = []
    for index, (prompt, options) in enumerate(MIXED):
        told.append(submit(engine, model, prompt, seed=index, host=host, **options))
        engine.step()
        engine.step()
    engine.run()
    for index, one in enumerate(told):
        same(one.parts, alone(submit, model, index))


def test_no_more_than_max_live_run_at_once_and_the_order_is_kept(make_model, submit):
    model = make_model()
    engine = Engine(model.backbone, rows=4096, max_live=2)
    told = [submit(engine, model, ["one"], seed=s, want=["text"], max_new_tokens=3) for s in range(6)]
    most, admitted = 0, []
    while not engine.idle:
        engine.step()
        most = max(most, len(engine.live))
        admitted += [i for i, t in enumerate(told) if t.live in engine.live and i not in admitted]
    assert most == 2
    assert admitted == sorted(admitted)
    assert all(t.done for t in told)


@pytest.mark.parametrize("steps", [0, 1, 3, 5])
def test_a_cancelled_request_frees_its_rows_at_the_next_step(make_model, submit, steps, same):
    model = make_model(kind="flow", fixed=True)
    engine, host = Engine(model.backbone, rows=4096), model.host()
    options = {"want": ["imu", "text", "imu"], "max_new_tokens": 8, "guidance": {"imu": 2.0}}
    gone = submit(engine, model, ["hello", IMU], seed=3, host=host, **options)
    stays = submit(engine, model, ["hello", IMU], seed=4, host=host, **options)
    for _ in range(steps):
        engine.step()
    gone.live.cancel()
    engine.step()
    assert gone.live not in engine.live
    assert engine.pool.used == sum(run.capacity for run in stays.live.runs)
    engine.run()
    assert not gone.done
    assert stays.done
    assert engine.pool.used == 0
    reference = Engine(model.backbone, rows=4096)
    again = submit(reference, model, ["hello", IMU], seed=4, **options)
    reference.run()
    same(stays.parts, again.parts)


def test_a_cancelled_request_that_waits_is_never_begun(make_model, submit, monkeypatch):
    model = make_model()
    engine = Engine(model.backbone, rows=4096, max_live=1)
    submit(engine, model, ["one"], want=["text"], max_new_tokens=3)
    waits = submit(engine, model, ["two"], want=["text"])
    engine.step()
    opened = []
    monkeypatch.setattr(model.planner, "plan", lambda *a, **k: opened.append(a))
    waits.live.cancel()
    engine.run()
    assert waits.events == []
    assert waits.talk == []
    assert not opened


def test_close_cancels_everything(make_model, submit):
    model = make_model()
    engine = Engine(model.backbone, rows=512, max_live=2)
    told = [submit(engine, model, ["one"], seed=s, want=["text"]) for s in range(4)]
    engine.step()
    engine.close()
    assert engine.idle
    assert engine.pool.used == 0
    assert not any(t.done for t in told)


# The cache.


def test_a_prompt_longer_than_the_cache_fails_alone(make_model):
    model = make_model()
    options = {"want": ["text"], "max_new_tokens": 3, "cache_rows": 64, "errors": "return"}
    replies = model.generate_batch([["one"], ["zqx " * 200], ["two"]], **options)
    assert isinstance(replies[1], CacheError)
    assert "prompt" in str(replies[1])
    for index, prompt in ((0, "one"), (2, "two")):
        assert replies[index].text == model.generate([prompt], want=["text"], max_new_tokens=3, seed=index).text


def test_the_last_row_of_the_cache_can_be_used(make_model):
    """Growth by doubling falls back to what is needed."""
    model = make_model(modality=False)
    rows = model.generate(["hello world"], want=["text"], max_new_tokens=1).usage.prompt_rows
    free = model.generate(["hello world"], want=["text"], max_new_tokens=150, seed=5)
    made = free.usage.rows["text"]
    assert made > 70  # more than the first reservation
    tight = model.generate(["hello world"], want=["text"], max_new_tokens=150, seed=5, cache_rows=rows + made)
    assert tight.text == free.text
    with pytest.raises(CacheError, match="cache_rows"):
        model.generate(["hello world"], want=["text"], max_new_tokens=150, seed=5, cache_rows=rows + made - 1)


def test_requests_wait_while_the_cache_is_full(make_model, submit, same):
    model = make_model()
    host, engine = model.host(), Engine(model.backbone, rows=200)
    told = [submit(engine, model, p, seed=i, host=host, **o) for i, (p, o) in enumerate(MIXED)]
    most = 0
    while not engine.idle:
        engine.step()
        most = max(most, len(engine.live))
        assert engine.pool.used <= 200
    assert most < len(MIXED)
    for index, one in enumerate(told):
        same(one.parts, alone(submit, model, index))


def test_gaps_between_runs_are_closed_before_a_request_fails(make_model, submit, same):
    """Three runs; the middle one goes; the last needs more than any one gap, but not more than there is."""
    model = make_model(modality=False)
    long = {"want": ["text"], "max_new_tokens": 100, "temperature": 3.0}
    reference = Engine(model.backbone, rows=1024)
    expected = submit(reference, model, ["one"], seed=11, **long)
    reference.run()
    assert len(expected.talk) > 75
    engine = Engine(model.backbone, rows=230)
    first = submit(engine, model, ["two"], seed=1, **long)
    second = submit(engine, model, ["three"], seed=2, **long)
    last = submit(engine, model, ["one"], seed=11, **long)
    engine.step()
    assert len(engine.live) == 3
    second.live.cancel()
    for _ in range(30):
        engine.step()
    first.live.cancel()
    engine.run()
    assert last.done, last.errors
    same(last.parts, expected.parts)


def _endless(model, monkeypatch) -> None:
    """Without an end mark the model cannot stop by itself."""
    monkeypatch.setattr(model.tokenizer, "marks", replace(model.tokenizer.marks, end=None))


def test_a_request_without_bound_ends_in_a_typed_error_when_the_cache_is_spent(make_model, monkeypatch):
    model = make_model()
    _endless(model, monkeypatch)
    many = {"allow": {"imu"}, "max_parts": 1000, "cache_rows": 128, "errors": "return"}
    replies = model.generate_batch([["one"], ["two"]], **many)
    assert all(isinstance(r, CacheError) for r in replies)
    bounded = model.generate_batch([["one"], ["two"]], **{**many, "max_parts": 2, "errors": "raise"})
    assert [r.modalities for r in bounded] == [("imu", "imu")] * 2


# Cost.


def _calls(step) -> int:
    """Python calls that one engine step makes."""
    count = 0

    def watch(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(watch)
    try:
        step()
    finally:
        sys.setprofile(None)
    return count


def test_a_token_costs_no_more_python_when_many_were_said(make_model, submit, monkeypatch):
    model = make_model(modality=False)
    _endless(model, monkeypatch)
    engine = Engine(model.backbone, rows=4096)
    submit(engine, model, ["one"], allow={"text"}, max_new_tokens=300, temperature=3.0, repetition_penalty=1.2)
    costs = []
    for _ in range(290):
        costs.append(_calls(engine.step))
    assert not engine.idle
    early, late = np.median(costs[10:60]), np.median(costs[-60:-10])
    assert late <= early * 1.05


def test_finished_requests_cost_nothing(make_model, submit, monkeypatch):
    model = make_model(modality=False)
    costs = []
    for finished in (0, 40):
        engine, host = Engine(model.backbone, rows=8192), model.host()
        for seed in range(finished):
            submit(engine, model, ["two"], seed=seed, host=host, allow={"text"}, max_new_tokens=2)
        engine.run()
        _endless(model, monkeypatch)
        host = model.host()
        submit(engine, model, ["one"], host=host, allow={"text"}, max_new_tokens=30)
        engine.step()
        costs.append(np.median([_calls(engine.step) for _ in range(20)]))
        monkeypatch.undo()
    assert costs[1] <= costs[0] * 1.02


def test_one_forward_pass_per_step_for_all_requests(make_model, submit, monkeypatch):
    model = make_model(modality=False)
    passes = []
    plain = model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda x, *a, **k: passes.append(len(x)) or plain(x, *a, **k))
    engine, host = Engine(model.backbone, rows=4096), model.host()
    for seed in range(5):
        submit(engine, model, ["one"], seed=seed, host=host, want=["text"], max_new_tokens=4)
    steps = 0
    while not engine.idle:
        engine.step()
        steps += 1
    assert len(passes) <= steps
    assert max(passes[1:]) <= 5


def test_usage_counts_rows_and_steps(make_model, submit):
    model = make_model(kind="flow-span", fixed=True)
    engine = Engine(model.backbone, rows=512)
    told = submit(engine, model, ["hello", IMU], want=["text", "imu"], max_new_tokens=3, steps={"imu": 4})
    engine.run()
    usage = told.events[-1].usage
    assert usage.prompt_rows == len(told.talk[0][0].rows)
    assert usage.rows == {"text": len([e for e in told.talk if e[0].pick]) - 1, "imu": 6}
    assert usage.steps == len(told.talk) == told.live.steps
    assert usage.seconds > 0
    assert isinstance(told.events[-2], SpanEnd)


def test_every_failure_of_ours_is_typed(make_model):
    reply = make_model().generate_batch([["one"], [3]], errors="return", want=["text"], max_new_tokens=1)
    assert isinstance(reply[1], AnyanyError)
