"""What the engine does row by row is what one packed training pass does: the same hidden states and scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from imu_plugin import Imu

from anyany.engine import Engine
from anyany.heads.steps import Fork
from anyany.model import Document, assembly
from anyany.model.document import _text
from anyany.parts import Message
from anyany.sequence import Layout

IMU = Imu(np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]], np.float32))
PROMPT = ["hello", IMU, "world"]
KINDS = ["codes", "books", "regression", "embedding", "flow", "flow-span"]


def packed(model, pieces) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and hidden states of one document in one pass without a cache."""
    placed = assembly.placed([Document(tuple(pieces))])
    layout = Layout.pack([[p.piece.span for p in placed]], model.backbone.scheme)
    rows = assembly.embed(model, placed).rows
    return rows, model.backbone(rows, layout.coordinates, layout.intervals)


@pytest.mark.parametrize("scheme", ["time", "span", "index"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_step_by_step_equals_teacher_forced(make_model, submit, kind, scheme):
    model = make_model(kind=kind, scheme=scheme, fixed=kind == "flow-span")
    engine = Engine(model.backbone, rows=512)
    told = submit(engine, model, PROMPT, seed=1, want=["text", "imu", "text", "imu"], max_new_tokens=3)
    engine.run()
    assert told.done
    kept = [(ask, result) for ask, result in told.talk if ask.keep]
    rows = torch.cat([ask.rows for ask, _ in kept])
    hidden = torch.cat([result.hidden[0] for _, result in kept])

    vocab = model.text.vocab
    spoken = iter(
        [z for ask, r in kept if ask.pick and ask.pick.picker not in model.heads.values() for z in [r.latents]]
    )
    pieces = list(model.planner.plan([Message("user", tuple(PROMPT))], reply=True).pieces)
    latest = {"imu": IMU}
    for part in told.parts:
        if isinstance(part, Imu):
            pieces.append(model.planner._piece(part, 0, True, True, latest))
            latest["imu"] = part
        else:
            ids = []
            while (token := int(next(spoken))) < vocab:
                ids.append(token)
            pieces.append(_text(ids))
    expected_rows, expected = packed(model, pieces)
    for mine, theirs in ((rows, expected_rows), (hidden, expected)):  # to 1e-5 of the largest number
        torch.testing.assert_close(mine, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=1e-5)
    coordinates = torch.cat([ask.coordinates for ask, _ in kept])
    layout = Layout.pack([[p.span for p in pieces]], model.backbone.scheme)
    torch.testing.assert_close(coordinates, layout.coordinates)


@torch.no_grad()
def test_a_trial_pass_sees_what_a_noised_copy_sees_in_training(make_model, submit):
    model = make_model(kind="flow-span", fixed=True)
    engine = Engine(model.backbone, rows=512)
    told = submit(engine, model, PROMPT, want=["imu"], steps={"imu": 3})
    engine.run()
    trials = [(ask, result) for ask, result in told.talk if not ask.keep]
    assert len(trials) == 3
    messages = [Message("user", tuple(PROMPT)), Message("assistant", (told.parts[0],))]
    document = model.planner.plan(messages, train=True)
    pieces = assembly.placed([document])
    layout = Layout.pack([document.spans], model.backbone.scheme)
    rows = assembly.embed(model, pieces, torch.Generator().manual_seed(0)).rows
    for ask, result in trials:
        rows[-len(ask.rows) :] = ask.rows
        hidden = model.backbone(rows, layout.coordinates, layout.intervals)[-len(ask.rows) :]
        torch.testing.assert_close(result.hidden[0], hidden, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["codes", "books"])
@pytest.mark.parametrize("fixed", [True, False])
def test_the_score_of_a_reply_is_what_its_picks_said(make_model, kind, fixed):
    model = make_model(kind=kind, fixed=fixed)
    compared = 0
    for seed in range(50):
        reply = model.generate(PROMPT, seed=seed, want=["imu", "text", "imu"], max_new_tokens=2)
        ids = model.tokenizer.encode(reply.parts[1])
        if len(ids) != reply.usage.rows["text"]:
            continue  # random tokens need not be those that their text is split into
        scores = model.score(PROMPT, reply)
        for part, score, logprob, finish in zip(reply.parts, scores, reply.logprobs, reply.finishes, strict=True):
            if isinstance(part, Imu) and finish == "length":
                continue  # a budget closed it: the model itself did not
            assert score == pytest.approx(logprob, abs=2e-4)
            compared += 1
    assert compared > 15


@pytest.mark.parametrize("kind", ["regression", "embedding", "flow", "flow-span"])
def test_vectors_have_no_log_probability_but_a_score_that_repeats(make_model, kind):
    model = make_model(kind=kind, fixed=True)
    reply = model.generate(PROMPT, want=["imu", "imu"])
    assert reply.logprobs == (None, None)
    state = torch.get_rng_state()
    first = model.score(PROMPT, reply)
    assert first == model.score(PROMPT, reply)
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are used up
    alone = model.score(PROMPT, reply.parts[0])
    if kind in ("regression", "embedding"):
        assert alone[0] == pytest.approx(first[0], abs=1e-4)  # a later part does not count


def test_the_score_of_one_part_leaves_out_the_others(make_model, monkeypatch):
    model = make_model(kind="flow-span", fixed=True)
    head = model.heads["imu/signs"]
    seen = []
    plain = type(head).loss_noised
    monkeypatch.setattr(
        type(head), "loss_noised", lambda self, hidden, target: seen.append(len(target)) or plain(self, hidden, target)
    )
    model.score(PROMPT, [IMU, "hello", Imu(np.ones((5, 3), np.float32))])
    assert seen == [3, 5]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_guidance_follows_its_formula_through_a_forked_prefix(make_model, submit, kind):
    model = make_model(kind=kind, fixed=True)
    engine, strength = Engine(model.backbone, rows=512), 2.5
    options = {"want": ["imu", "text"], "max_new_tokens": 2, "guidance": {"imu": strength}, "temperature": 0.0}
    told = submit(engine, model, PROMPT, **options)
    engine.run()
    guided = [(ask, r) for ask, r in told.talk if r.hidden.shape[0] == 2]
    inner = [(ask, r) for ask, r in guided if ask.keep]

    bare = model.host().bare()  # the branch is an opened reply without a prompt, then the same span
    rows = torch.cat([bare, *[ask.rows for ask, _ in inner]])
    start = inner[0][0].coordinates[0, 0] - len(bare)
    lead = (start + torch.arange(len(bare)))[:, None].expand(-1, 3)
    coordinates = torch.cat([lead, *[ask.coordinates for ask, _ in inner]])
    intervals = torch.zeros(len(rows), 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = torch.arange(1, len(rows) + 1)
    if kind == "flow-span":
        intervals[-6:, 1, 1] = len(rows)
    expected = model.backbone(rows, coordinates, intervals)[len(bare) :]
    branch = torch.cat([r.hidden[1] for _, r in inner])
    torch.testing.assert_close(branch, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(branch, torch.cat([r.hidden[0] for _, r in inner]), atol=1e-3)

    head = model.heads["imu/signs"]
    for ask, result in inner:
        if kind == "codes" and ask.pick is not None:
            c, u = head.logits(result.hidden[:, -1])[:, :-1]
            assert int(result.latents) == int((u + strength * (c - u)).argmax())
        if kind == "embedding" and ask.pick is not None:
            c, u = head.vector(result.hidden[:, -1])
            torch.testing.assert_close(result.latents, head.scale.inverse(u + strength * (c - u)))
    last = max(i for i, (_, r) in enumerate(told.talk) if r.hidden.shape[0] == 2)
    after = told.talk[last + 1 :]
    assert after
    assert all(r.hidden.shape[0] == 1 for _, r in after)  # text goes on without the branch
    assert engine.pool.used == 0


@torch.no_grad()
def test_a_fork_shares_a_prefix_and_steps_with_its_parent(make_model):
    """A branch that shares four rows sees those and its own, and nothing of what its parent adds."""
    model = make_model(modality=False)
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(9, 32, generator=draw)
    at = torch.arange(9.0)[:, None].expand(-1, 3)
    seen = []

    def conversation():
        from anyany.heads.steps import Join, Step

        yield Step(rows[:6], at[:6])
        yield Fork(rows[6:7], at[6:7], share=4)
        result = yield Step(rows[7:8], at[7:8])
        seen.append(result.hidden)
        yield Join()
        result = yield Step(rows[8:], at[8:])
        seen.append(result.hidden)

    engine = Engine(model.backbone, rows=256)
    errors = []
    engine.submit(conversation(), draw, errors.append)
    engine.run()
    assert not errors

    def alone(index):
        intervals = torch.zeros(len(index), 2, 2, dtype=torch.int32)
        intervals[:, 1, 1] = torch.arange(1, len(index) + 1)
        return model.backbone(rows[index], at[index], intervals)[-1]

    torch.testing.assert_close(seen[0][0, 0], alone([0, 1, 2, 3, 4, 5, 7]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen[0][1, 0], alone([0, 1, 2, 3, 6, 7]), atol=1e-5, rtol=1e-5)
    assert seen[1].shape[0] == 1
    torch.testing.assert_close(seen[1][0, 0], alone([0, 1, 2, 3, 4, 5, 7, 8]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["codes", "flow"])
def test_without_marks_nothing_is_predicted_from_another_document(make_model, kind):
    """The first row of a document has nothing before it: it is no target."""
    from anyany.model import Marks

    model = make_model(kind=kind, fixed=True, rows=3)
    model.tokenizer.marks = Marks()
    try:
        documents = [
            model.planner.plan([Message("assistant", (p,))], train=True) for p in ("hello world", IMU, "one two three")
        ]
        alone = [model([d], torch.Generator().manual_seed(0)) for d in documents]
        together = model(documents, torch.Generator().manual_seed(0))
        text = sum(t["text"].total for t in (alone[0], alone[2]))
        torch.testing.assert_close(together["text"].total, text)
        assert together["text"].rows == sum(d.rows - 1 for d in (documents[0], documents[2]))
        muted = [replace(d.pieces[0], learn=False) for d in documents]
        assert "text" not in model([Document((p,)) for p in muted])
    finally:
        model.tokenizer.marks = Marks.behind(model.tokenizer.vocab)
