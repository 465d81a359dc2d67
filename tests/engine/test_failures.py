"""One request fails, for whatever reason; the others are what they would have been."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from imu_plugin import Imu

from anyany.backbone import BackboneConfig
from anyany.engine import Engine
from anyany.errors import CacheError, LayoutError
from anyany.heads.steps import Drop, Picked, Step
from anyany.model import compose

IMU = Imu(np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]], np.float32))
KINDS = ["codes", "books", "regression", "embedding", "flow", "flow-span"]


def _broken_codec(model, monkeypatch):
    codec = model.codecs["imu/signs"]
    plain = codec.decode

    def decode(latents, like=None):
        if like is CULPRIT:
            raise ZeroDivisionError("a plugin's own mistake")
        return plain(latents, like)

    monkeypatch.setattr(codec, "decode", decode)


def _nan_latents(model, monkeypatch):
    head = model.heads["imu/signs"]
    plain = head.pick

    def pick(hidden, rules, draws, states):
        picked = plain(hidden, rules, draws, states)
        latents = picked.latents.clone()
        latents[[rule.top_k == 7 for rule in rules]] = float("nan")
        return Picked(latents, picked.end, picked.logprob, picked.extra)

    monkeypatch.setattr(head, "pick", pick)


def _raising_head(model, monkeypatch):
    head = model.heads["imu/signs"]
    plain = head.pick

    def pick(hidden, rules, draws, states):
        picked = plain(hidden, rules, draws, states)  # every generator has drawn by now
        if any(rule.top_k == 7 for rule in rules):
            raise RuntimeError("cannot sample this one")
        return picked

    monkeypatch.setattr(head, "pick", pick)


def _short_answer(model, monkeypatch):
    head = model.heads["imu/signs"]
    plain = head.pick

    def pick(hidden, rules, draws, states):
        picked = plain(hidden, rules, draws, states)
        if all(rule.top_k != 7 for rule in rules):
            return picked
        return Picked(picked.latents[:-1], picked.end[:-1], None)

    monkeypatch.setattr(head, "pick", pick)


def _nan_rows(model, monkeypatch):
    head = model.heads["imu/signs"]
    plain = head.emit

    def emit(context):
        if context.rule.top_k == 7:
            yield Step(torch.full((1, 32), float("nan")), context.begin)
        return (yield from plain(context))

    monkeypatch.setattr(head, "emit", emit)


def _wrong_rows(model, monkeypatch):
    head = model.heads["imu/signs"]
    plain = head.emit

    def emit(context):
        if context.rule.top_k == 7:
            yield Step(torch.zeros(1, 7), context.begin)
        return (yield from plain(context))

    monkeypatch.setattr(head, "emit", emit)


def _drops_too_much(model, monkeypatch):
    head = model.heads["imu/signs"]
    plain = head.emit

    def emit(context):
        if context.rule.top_k == 7:
            yield Drop(10_000)
        return (yield from plain(context))

    monkeypatch.setattr(head, "emit", emit)


def _bad_cleanup(model, monkeypatch):
    head = model.heads["imu/signs"]
    plain = head.emit

    def emit(context):
        try:
            yield Step(head.begin[None], context.begin)
            if context.rule.top_k == 7:
                raise RuntimeError("first mistake")
        except RuntimeError:
            raise ValueError("and one while cleaning up") from None
        return (yield from plain(context))

    monkeypatch.setattr(head, "emit", emit)


CULPRIT = Imu(np.ones((2, 3), np.float32))
FAULTS = {
    "codec raises": (_broken_codec, ZeroDivisionError), "head gives NaN": (_nan_latents, LayoutError),
    "head raises": (_raising_head, RuntimeError), "head answers for nobody": (_short_answer, LayoutError),
    "rows are NaN": (_nan_rows, LayoutError), "rows have another width": (_wrong_rows, LayoutError),
    "more rows dropped than there are": (_drops_too_much, CacheError), "clean-up fails": (_bad_cleanup, ValueError),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_one_failing_request_harms_no_other(make_model, submit, monkeypatch, fault, same):
    model = make_model(kind="flow", rows=4)
    breaks, error = FAULTS[fault]
    breaks(model, monkeypatch)
    options = {"want": ["text", "imu"], "max_new_tokens": 1}

    def ask(engine, prompt, seed, **more):
        return submit(engine, model, prompt, seed=seed, host=host, **options, **more)

    host = model.host()
    engine = Engine(model.backbone, rows=2048)
    before = ask(engine, ["one", IMU], 1)
    bad = ask(engine, ["two", CULPRIT], 2, top_k={"imu": 7})
    after = ask(engine, ["three", IMU], 3)
    engine.run()
    assert [type(e) for e in bad.errors] == [error]
    assert not bad.done
    assert engine.pool.used == 0
    for told, prompt, seed in ((before, ["one", IMU], 1), (after, ["three", IMU], 3)):
        assert told.done
        assert not told.errors
        reference = Engine(model.backbone, rows=2048)
        again = ask(reference, prompt, seed)
        reference.run()
        same(told.parts, again.parts)


def test_a_damaged_head_fails_every_request_that_uses_it_and_no_other(make_model):
    for kind in KINDS:
        model = make_model(kind=kind, fixed=True)
        for name, parameter in model.heads["imu/signs"].named_parameters():
            if name.startswith(("logits", "outer", "vector", "velocity", "leave")):
                parameter.data.fill_(float("nan"))
        replies = model.generate_batch([["one"]], want=["imu"], errors="return")
        assert isinstance(replies[0], LayoutError), kind
        assert model.generate(["one"], want=["text"], max_new_tokens=2).modalities == ("text",)


def test_a_prompt_beyond_the_learned_positions_fails_alone(plugins, tokenizer):
    torch.manual_seed(0)
    config = BackboneConfig(width=16, layers=1, heads=2, positions="learned", max_positions=12)
    model = compose(backbone=config, tokenizer=tokenizer, plugins=plugins)
    good = model.generate(["one"], want=["text"], max_new_tokens=2)
    options = {"want": ["text"], "max_new_tokens": 2, "errors": "return"}
    replies = model.generate_batch([["one"], ["zzzz qqqq " * 9], ["two"]], **options)
    assert replies[0].text == good.text
    assert isinstance(replies[1], LayoutError)
    assert len(replies[2].parts) == 1
