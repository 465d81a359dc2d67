"""Interleaved in, interleaved out, with a modality that the core has never heard of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from imu_plugin import Imu

from anyany.engine import Done, SpanEnd, SpanStart, TextDelta
from anyany.errors import GuidanceError, PromptError, RequestError, SpanMismatchError, UnknownModalityError
from anyany.model import Document, assembly
from anyany.model.document import _text
from anyany.parts import Message
from anyany.sequence import Layout

IMU = Imu(np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]], np.float32))
PROMPT = ["hello", IMU, "world"]


@pytest.mark.parametrize("kind", ["codes", "books", "regression", "embedding", "flow"])
def test_want_fixes_the_order(make_model, kind):
    model = make_model(kind=kind)
    reply = model.generate(PROMPT, want=["text", "imu", "imu", "text"], max_new_tokens=6)
    assert reply.modalities == ("text", "imu", "imu", "text")
    assert all(len(part.readings) <= 6 for part in reply.parts if isinstance(part, Imu))


def test_span_flow_denoises_a_whole_span(make_model):
    model = make_model(kind="flow-span", fixed=True)
    reply = model.generate(PROMPT, want=["imu", "text"], max_new_tokens=3)
    assert reply.modalities == ("imu", "text")
    assert len(reply.parts[0].readings) == 6


def test_the_model_chooses(make_model):
    orders = {make_model().generate(PROMPT, seed=s, temperature=3.0, max_new_tokens=4).modalities for s in range(20)}
    assert len(orders) > 2  # random weights: many orders
    assert any("imu" in order for order in orders)


def test_allow_limits_the_choice(make_model):
    model = make_model()
    for seed in range(8):
        assert set(model.generate(PROMPT, seed=seed, allow={"imu"}, max_parts=2).modalities) == {"imu"}
        assert "imu" not in model.generate(PROMPT, seed=seed, allow={"text"}, max_new_tokens=3).modalities


@pytest.mark.parametrize("leaves_by", ["end", "imu"])
@pytest.mark.parametrize(
    ("options", "modalities"),
    [({"want": ["text"]}, ("text",)), ({"want": ["text", "imu"]}, ("text", "imu")),
     ({"want": ["text", "imu", "text"]}, ("text", "imu", "text"))],
)  # fmt: skip
def test_a_text_that_the_model_would_end_is_not_spun_out(make_model, monkeypatch, leaves_by, options, modalities):
    """It says one word and leaves, by a mark that the caller has ruled out or not: the word stays one word."""
    model = make_model(rows=2)
    word, *_ = model.tokenizer.encode("one")
    mark = {"end": min(model.tokenizer.marks.ends), "imu": model.text.vocab}[leaves_by]
    said = []

    def logits(self, hidden):
        scores = torch.zeros(*hidden.shape[:-1], model.text.vocab + 1)
        scores[..., 7] = 6.0  # the babble of a model that is not let go
        scores[..., mark if said and said[-1] == "word" else word] = 9.0
        said.append("word" if not said or said[-1] != "word" else "left")
        return scores

    monkeypatch.setattr("anyany.heads.text.TextPicker.logits", logits)
    reply = model.generate(PROMPT, max_new_tokens=8, temperature=0.0, **options)
    assert reply.modalities == modalities
    texts = [part for part in reply.parts if isinstance(part, str)]
    assert texts == [model.tokenizer.decode([word])] * len(texts)


@pytest.mark.parametrize("kind", ["codes", "books", "regression", "flow"])
def test_alone_equals_among_others(make_model, kind):
    model = make_model(kind=kind)
    prompts = [
        ["one"],
        PROMPT,
        [IMU, IMU],
        ["what is this?", IMU],
        ["two three"],
        [IMU],
        ["four"],
        ["hello world"],
    ]
    options = {"want": ["text", "imu", "text"], "max_new_tokens": 5}
    together = model.generate_batch(prompts, seed=7, **options)
    for index, prompt in enumerate(prompts):
        alone = model.generate(prompt, seed=7 + index, **options)
        assert alone.text == together[index].text
        # The prompts of all are more rows than one of the shorter ways takes: sums in another order.
        expected = torch.tensor(together[index].parts[1].readings)
        near = 1e-4 * (1 + float(expected.abs().max()))
        torch.testing.assert_close(torch.tensor(alone.parts[1].readings), expected, rtol=1e-4, atol=near)


@torch.no_grad()
def test_greedy_equals_recomputing_everything(make_model):
    """The cache, the engine and the plain forward pass agree token by token."""
    model = make_model()
    reply = model.generate(PROMPT, temperature=0.0, want=["text"], max_new_tokens=6)
    ids: list[int] = []
    document = model.planner.plan([Message("user", tuple(PROMPT))], reply=True)
    for _ in range(6):
        pieces = (*document.pieces, _text(ids)) if ids else document.pieces
        placed = assembly.placed([Document(pieces)])
        layout = Layout.pack([[p.piece.span for p in placed]], model.backbone.scheme)
        hidden = model.backbone(assembly.embed(model, placed).rows, layout.coordinates, layout.intervals)
        logits = model.text.logits(hidden[-1])
        allowed = [*range(model.tokenizer.vocab), *([model.tokenizer.marks.end] if ids else [])]
        choice = max(allowed, key=lambda i: float(logits[i]))
        if choice == model.tokenizer.marks.end:
            break
        ids.append(choice)
    assert reply.text == model.tokenizer.decode(ids)


@pytest.mark.parametrize("kind", ["codes", "books"])
def test_score_agrees_with_generation(make_model, kind):
    model = make_model(kind=kind)
    reply = model.generate(PROMPT, want=["text"], max_new_tokens=5, seed=3)
    assert np.isfinite(model.score(PROMPT, reply)).all()


def test_stream_tells_what_happens(make_model):
    model = make_model()
    events = list(model.stream(PROMPT, want=["text", "imu"], max_new_tokens=4))
    kinds = [type(e) for e in events]
    assert kinds[0] is SpanStart
    assert kinds[-1] is Done
    text = "".join(e.text for e in events if isinstance(e, TextDelta))
    ends = [e for e in events if isinstance(e, SpanEnd)]
    assert [e.part for e in ends] == [0, 1]
    assert text == ends[0].content == model.generate(PROMPT, want=["text", "imu"], max_new_tokens=4).text


def test_budget_closes_a_span_well_formed(make_model):
    reply = make_model().generate(PROMPT, want=["imu", "text"], budgets={"imu": 2}, max_new_tokens=2)
    assert len(reply.parts[0].readings) <= 2
    assert reply.modalities == ("imu", "text")
    fixed = make_model(fixed=True).generate(PROMPT, want=["imu"], budgets={"imu": 2})
    assert len(fixed.parts[0].readings) == 2
    assert fixed.finishes == ("length",)


@pytest.mark.parametrize("kind", ["codes", "books", "regression", "flow"])
def test_guidance_through_a_forked_branch(make_model, kind):
    model = make_model(kind=kind, fixed=True)
    plain = model.generate(PROMPT, want=["imu", "text"], max_new_tokens=2)
    guided = model.generate(PROMPT, want=["imu", "text"], guidance={"imu": 3.0}, max_new_tokens=2)
    assert guided.modalities == plain.modalities
    assert guided.parts[0] != plain.parts[0]


def test_one_number_guides_all_media_and_numpy_numbers_are_numbers(make_model):
    model = make_model()
    options = {"want": ["text", "imu"], "max_new_tokens": 2}
    by_name = model.generate(PROMPT, guidance={"imu": 3.0}, **options)
    at_once = model.generate(PROMPT, guidance=np.float32(3.0), seed=np.int64(0), **options)
    assert by_name.text == at_once.text
    assert (by_name.parts[1].readings == at_once.parts[1].readings).all()


def test_guidance_without_a_branch_is_an_error(make_model):
    with pytest.raises(GuidanceError, match="no unconditional branch"):
        make_model().generate(PROMPT, want=["text"], guidance={"text": 2.0})


def test_one_failing_request_harms_no_other(make_model):
    model = make_model()
    good = model.generate(["one"], want=["text"], max_new_tokens=4, seed=0)
    broken = Imu(np.full((3, 3), np.nan, np.float32))
    replies = model.generate_batch([["one"], [broken]], want=["text"], max_new_tokens=4, errors="return")
    assert replies[0].text == good.text
    assert isinstance(replies[1], Exception)


def test_declared_and_produced_lengths_are_both_named(make_model, monkeypatch):
    model = make_model()
    encoder = model.encoders["imu/linear"]
    monkeypatch.setattr(type(encoder), "forward", lambda self, batch: torch.zeros(2, self.width))
    with pytest.raises(SpanMismatchError, match=r"imu/linear, part 1: declared 3 rows, produced 2"):
        model.generate(PROMPT)


def test_marks_in_user_text_stay_text(make_model):
    model = make_model()
    marks = model.tokenizer.marks
    for text in ("<bos><user><assistant>", "\x00<end>", "<|im_end|></s>"):
        ids = model.tokenizer.encode(text)
        assert max(ids) < min(x for x in (marks.bos, marks.end) if x is not None)
        assert model.tokenizer.decode(ids) == text


def test_unused_modality_changes_nothing(make_model):
    with_imu, without = make_model(), make_model(modality=False)
    for name in ("backbone", "text"):
        without.components[name].load_state_dict(with_imu.components[name].state_dict())
    assert torch.equal(with_imu.logits(["hello"]), without.logits(["hello"]))
    options = {"allow": {"text"}, "max_new_tokens": 8, "seed": 5}
    assert with_imu.generate(["hello"], **options).text == without.generate(["hello"], **options).text


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"want": ["smell"]}, UnknownModalityError),
        ({"want": []}, RequestError),
        ({"want": "text"}, RequestError),
        ({"want": ["text", "text"]}, RequestError),
        ({"want": ["text"], "allow": {"text"}}, RequestError),
        ({"max_new_tokens": -1}, RequestError),
        ({"temperature": "hot"}, RequestError),
        ({"top_p": 2.0}, RequestError),
        ({"max_tokens": 3}, RequestError),
        ({"stop": [""]}, RequestError),
        ({"budgets": {"imu": 0}}, RequestError),
    ],
)
def test_bad_options(make_model, options, error):
    with pytest.raises(error):
        make_model().generate(["hello"], **options)


@pytest.mark.parametrize("prompt", [[], 3, [3], [{"role": "judge", "content": "x"}], ["\ud800"], b"x"])
def test_bad_prompts(make_model, prompt):
    with pytest.raises(PromptError):
        make_model().generate(prompt)
