"""A prompt that passes in pieces beside others gives what it gives whole, and stalls nobody."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from imu_plugin import Imu
from torch import nn

from anyany.backbone import BackboneConfig
from anyany.engine import Engine
from anyany.engine.live import piece
from anyany.heads.steps import Step
from anyany.model import compose

LONG = "zqx wvk " * 9


def imu(seed: int, rows: int = 23) -> Imu:
    return Imu(np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32))


def ask(submit, engine, model, prompt, seed=0, **options):
    return submit(engine, model, prompt, seed=seed, **{"want": ["text", "imu"], "max_new_tokens": 5, **options})


def passes_of(model, monkeypatch) -> list[int]:
    """Rows of each pass."""
    passes, plain = [], model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda x, *a, **k: passes.append(len(x)) or plain(x, *a, **k))
    return passes


def beside(submit, model, jobs, size: int, **engine) -> list:
    """Requests that come while one is in the middle of its reply."""
    runs = Engine(model.backbone, rows=2000, piece=size, **engine)
    other = ask(submit, runs, model, ["one"], 9, want=["text", "imu"] * 4, max_new_tokens=30)
    runs.step()
    told = [ask(submit, runs, model, prompt, seed, **options) for prompt, seed, options in jobs]
    runs.run()
    assert other.done, other.errors
    assert all(one.done for one in told), [one.errors for one in told]
    assert runs.pool.used == 0
    return [other, *told]


JOBS = [
    ([LONG, imu(0), LONG], 0, {}),
    ([imu(1), imu(2), "two"], 1, {"guidance": {"imu": 2.0}}),
    ([LONG], 2, {}),
]


@pytest.mark.parametrize("kind", ["codes", "flow-span"])
@pytest.mark.parametrize("encoded", [True, False], ids=["causal", "both ways"])
def test_pieces_of_any_size_give_the_same(make_model, submit, same, kind, encoded):
    model = make_model(kind=kind, fixed=kind == "flow-span").eval()
    if not encoded:  # as latents of a codec, whose rows see each other where the kind is a span
        model.planner.encoders = {}
    whole = beside(submit, model, JOBS, 10_000)
    for size in (1, 2, 7, 24, 64, 90):
        for one, expected in zip(beside(submit, model, JOBS, size), whole, strict=True):
            same(one.parts, expected.parts)


@pytest.mark.parametrize(
    "changes", [{"window": (0, 5)}, {"positions": "learned", "sections": None}], ids=["windows", "learned"]
)
def test_with_windows_and_learned_positions(tokenizer, plugins, submit, same, changes):
    torch.manual_seed(0)
    shape = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, **changes}
    model = compose(
        backbone=BackboneConfig(**{k: v for k, v in shape.items() if v is not None}), tokenizer=tokenizer,
        encoders=["imu/linear"], decoders=["imu/signs"], plugins=plugins,
    )  # fmt: skip
    whole = beside(submit, model, JOBS, 10_000)
    for one, expected in zip(beside(submit, model, JOBS, 13), whole, strict=True):
        same(one.parts, expected.parts)


def test_with_adapters(make_model, submit, same):
    model = make_model().eval()
    torch.manual_seed(1)
    for matrix in model.adapters.add("one", ["backbone", "encoder/", "head/"]).up:
        nn.init.normal_(matrix, std=0.1)

    def replies(size: int) -> list:
        engine = Engine(model.backbone, rows=2000, piece=size)
        told = [ask(submit, engine, model, ["one"], 9, max_new_tokens=30)]
        engine.step()
        for index, (prompt, seed, options) in enumerate(JOBS):
            told.append(ask(submit, engine, model, prompt, seed, **options))
            told[-1].live.adapter = model.adapters["one"] if index != 1 else None
        engine.run()
        return told

    plain = beside(submit, model, JOBS, 17)
    for index, (one, expected) in enumerate(zip(replies(17), replies(10_000), strict=True)):
        same(one.parts, expected.parts)
        if index == 1:
            assert not np.allclose(one.talk[0][1].hidden, plain[1].talk[0][1].hidden, atol=1e-2)


def test_hidden_states_are_those_of_all_rows(make_model, submit):
    model = make_model().eval()
    (_, cut, *_), (_, whole, *_) = (beside(submit, model, JOBS, size) for size in (20, 10_000))
    assert cut.talk[0][1].hidden.shape == whole.talk[0][1].hidden.shape
    torch.testing.assert_close(cut.talk[0][1].hidden, whole.talk[0][1].hidden, atol=1e-4, rtol=1e-4)


def test_nobody_waits_for_a_long_prompt(make_model, submit, monkeypatch):
    model = make_model().eval()
    engine = Engine(model.backbone, rows=2000, piece=10)
    talks = ask(submit, engine, model, ["one"], want=["text"], max_new_tokens=40, temperature=3.0)
    engine.step()
    reads = [ask(submit, engine, model, [LONG]), ask(submit, engine, model, [LONG, LONG])]
    passes = passes_of(model, monkeypatch)
    for step in range(1, 6):
        said = len(talks.talk)
        engine.step()
        assert len(talks.talk) == said + 1
        assert [len(one.talk) for one in reads] == [0, 0]
        assert (passes[-1], reads[0].live.runs[0].length) == (11, 10 * step)
    assert reads[1].live.runs[0].length == 0  # in order
    engine.run()
    assert all(one.done for one in (talks, *reads))


def test_a_prompt_alone_passes_whole(make_model, submit, monkeypatch):
    model = make_model().eval()
    passes = passes_of(model, monkeypatch)
    engine = Engine(model.backbone, rows=2000, piece=10)
    told = [ask(submit, engine, model, [LONG], seed, want=["text"], max_new_tokens=1) for seed in range(2)]
    engine.run()
    assert passes[0] == sum(len(one.talk[0][0].rows) for one in told) > 100


@pytest.mark.parametrize("after", [0, 1, 3])
def test_one_that_reads_may_be_cancelled(make_model, submit, same, after):
    model = make_model().eval()
    expected = beside(submit, model, JOBS[:1], 10_000)
    engine = Engine(model.backbone, rows=2000, piece=10)
    other = ask(submit, engine, model, ["one"], 9, want=["text", "imu"] * 4, max_new_tokens=30)
    engine.step()
    gone, stays = ask(submit, engine, model, [LONG, LONG], 5), ask(submit, engine, model, *JOBS[0][:2])
    for _ in range(after):
        engine.step()
    gone.live.cancel()
    engine.run()
    same(other.parts, expected[0].parts)
    same(stays.parts, expected[1].parts)
    assert engine.pool.used == 0


def test_a_piece_that_fails_costs_only_its_request(make_model, submit, monkeypatch):
    model = make_model().eval()
    plain = model.backbone.forward

    def forward(x, coordinates, *args, **kwargs):
        if float(coordinates.max()) > 60:
            raise RuntimeError("too far")
        return plain(x, coordinates, *args, **kwargs)

    monkeypatch.setattr(model.backbone, "forward", forward)
    engine = Engine(model.backbone, rows=2000, piece=10)
    talks = ask(submit, engine, model, ["one"], want=["text"], max_new_tokens=12)
    engine.step()
    bad = ask(submit, engine, model, [LONG, LONG])
    engine.run()
    assert talks.done
    assert [str(error) for error in bad.errors] == ["too far"]
    assert engine.pool.used == 0


def test_pieces_joined_are_the_ask():
    sees = torch.tensor([1, 2, 5, 5, 5, 6, 7])
    ask = Step(torch.randn(7, 4), torch.randn(7, 3), sees=sees)
    for cuts in itertools.combinations([1, 2, 5, 6], 2):
        bounds = list(itertools.pairwise([0, *cuts, 7]))
        pieces = [piece(ask, *bound) for bound in bounds]
        assert torch.equal(torch.cat([one.rows for one in pieces]), ask.rows)
        assert torch.equal(torch.cat([one.coordinates for one in pieces]), ask.coordinates)
        seen = [one.sees + start for one, (start, _) in zip(pieces, bounds, strict=True)]
        assert torch.equal(torch.cat(seen), sees)
