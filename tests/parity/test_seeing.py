"""Models that see and that transformers wrote: the same logits with none, one and several pictures; saved; and back."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from parity.seeing import CASES, IMAGE, PROMPTS, apart, both, pictures, processor, read, theirs_of, write, write_words
from safetensors.torch import load_file, save_file

import anyany
from anyany.errors import CheckpointError
from anyany.importers.foreign import describe
from anyany.importers.places import places
from anyany.model.opening import plan_reply
from anyany.parts import Message, as_messages
from anyany.plugin.registry import registry

ATOL = 1e-4
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
prompts = pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
FIRST = CASES[0]
ONE_OF_EACH = [next(c for c in CASES if c.family == family) for family in dict.fromkeys(c.family for c in CASES)]
one_of_each = pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.family)
TWO = PROMPTS["two of different sizes"]


@each
def test_logits_equal_transformers(tmp_path, case):
    theirs, ours, prepared = both(tmp_path, case)
    for prompt in PROMPTS.values():
        far = apart(theirs, ours, prompt, prepared)
        assert far.spread > 0.3  # a flat model would agree with anything
        assert max(far.prefill, far.steps, far.uncached) < ATOL


@one_of_each
def test_each_picture_stays_in_its_place(tmp_path, case):
    ours = both(tmp_path, case)[1]
    first, one, second, other, third = TWO
    swapped = ours.logits([first, other, second, one, third])
    assert (swapped - ours.logits(TWO)).abs().max() > 0.1


@one_of_each
@prompts
def test_greedy_tokens_equal_transformers(tmp_path, prompt, case):
    theirs = write(tmp_path, case)
    write_words(tmp_path, case)
    words = [" w9 w17 w80 " if isinstance(part, str) else part for part in prompt]
    given = theirs_of(words, processor(tmp_path, case))
    if not case.gemma:
        given.pop("token_type_ids", None)
    made = theirs.generate(**given, max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)[0]
    made = made[given["input_ids"].shape[1] :]
    made = made[: made.tolist().index(2)] if 2 in made else made
    assert len(set(made.tolist())) > 1
    ours = anyany.load(tmp_path, device="cpu")
    assert ours.generate(words, max_new_tokens=24).text.split() == [ours.tokenizer.backend.id_to_token(i) for i in made]


@one_of_each
def test_a_batch_is_each_alone(tmp_path, case):
    ours = both(tmp_path, case)[1]
    alone = [ours.generate(prompt, max_new_tokens=12).text for prompt in PROMPTS.values()]
    together = [reply.text for reply in ours.generate_batch(list(PROMPTS.values()), max_new_tokens=12)]
    assert together == alone
    assert len(set(alone)) == len(alone)


@each
def test_our_own_form_gives_the_same_bits(tmp_path, case):
    imported = both(tmp_path / "theirs", case)[1]
    imported.save(tmp_path / "ours")
    again = anyany.load(tmp_path / "ours", device="cpu")
    for prompt in PROMPTS.values():
        assert torch.equal(imported.logits(prompt), again.logits(prompt))
        made = imported.generate(prompt, max_new_tokens=6), again.generate(prompt, max_new_tokens=6)
        assert made[0].text == made[1].text


@pytest.mark.slow
def test_nothing_needs_transformers(tmp_path):
    both(tmp_path / "theirs", FIRST)[1].save(tmp_path / "ours")
    code = """
        import sys
        sys.modules["transformers"] = None  # importing it raises
        import anyany
        for folder in sys.argv[1:]:
            picture = anyany.Image.from_array([[0, 50, 99], [200, 7, 8]])
            print(repr(anyany.load(folder, device="cpu").generate([picture, "the dog"], max_new_tokens=5).text))
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), tmp_path / "theirs", tmp_path / "ours"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second


@each
def test_the_way_back(tmp_path, case):
    theirs, ours, prepared = both(tmp_path / "theirs", case)
    ours.save(tmp_path / "ours")
    anyany.load(tmp_path / "ours", device="cpu").save_huggingface(tmp_path / "back")
    back = read(tmp_path / "back", case)
    given = theirs_of(TWO, prepared)
    with torch.no_grad():
        assert torch.equal(back(**given).logits, theirs(**given).logits)
    state = back.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.state_dict().items())
    again = anyany.load(tmp_path / "back", device="cpu")  # what prepares pictures came back, too
    assert torch.equal(again.logits(TWO), ours.logits(TWO))


@one_of_each
def test_gradients_of_a_step_equal_transformers(tmp_path, case):
    theirs, ours, prepared = both(tmp_path, case)
    said = "the wizards quickly judge"
    given = theirs_of([*TWO, said], prepared)
    answer = len(ours.tokenizer.encode(said))
    labels = given["input_ids"].clone()
    labels[:, :-answer] = -100
    theirs(**given, labels=labels).loss.backward()
    document = ours.planner.plan([Message("user", tuple(TWO)), Message("assistant", (said,))], train=True)
    loss = ours([document])["text"]
    assert loss.rows == answer
    (loss.total / loss.rows).backward()
    wanted = {name: p.grad for name, p in theirs.named_parameters()}
    mine = {name: p.grad for name, p in ours.named_parameters()}
    found = {}
    foreign = describe(ours.origin, ours.origin_files, registry())
    for key, place in places(ours, foreign.names, foreign.encoders).items():
        found |= place.pieces(mine[key]) if mine[key] is not None else dict.fromkeys(place.shapes)
    as_held = (("language_model.lm_head", "lm_head"), ("language_model.model", "model.language_model"))
    for name, gradient in found.items():
        held = next((new + name.removeprefix(old) for old, new in as_held if name.startswith(old)), f"model.{name}")
        theirs_is = wanted.pop(held)
        if gradient is None:  # the last block of the tower, and the norm behind it, are not read
            assert theirs_is is None, name
            assert not case.gemma
            continue
        assert theirs_is.abs().max() > 0, name
        scale = float(theirs_is.abs().max() + 1)
        torch.testing.assert_close(gradient, theirs_is, rtol=1e-3, atol=1e-5 * scale, msg=name)
    assert not wanted


@one_of_each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_weights_of_another_type(tmp_path, case, dtype):
    ours = both(tmp_path / "wide", case)[1]
    narrow = anyany.load(tmp_path / "wide", device="cpu", dtype=dtype)
    assert {p.dtype for p in narrow.parameters()} == {dtype}
    found, wanted = narrow.logits(TWO).float(), ours.logits(TWO)
    assert torch.nn.functional.cosine_similarity(found, wanted).min() > 0.95
    narrow.save_huggingface(tmp_path / "narrow")
    again = anyany.load(tmp_path / "narrow", device="cpu")  # as the file has it
    assert {p.dtype for p in again.parameters()} == {dtype}
    assert torch.equal(again.logits(TWO), narrow.logits(TWO))


# Files as other versions wrote them.

HUB = (("vision_tower.", "vision_tower.vision_model."),)
NEWER = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.vision_tower.vision_model."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)


@one_of_each
@pytest.mark.parametrize("pairs", [HUB, NEWER], ids=["before 4.52", "4.52 to 5.9"])
def test_names_of_other_versions(tmp_path, pairs, case):
    ours = both(tmp_path, case)[1]
    file = tmp_path / "model.safetensors"
    renamed = {}
    for name, tensor in load_file(file).items():
        renamed[next((new + name.removeprefix(old) for old, new in pairs if name.startswith(old)), name)] = tensor
    renamed[f"{dict(pairs)['vision_tower.']}embeddings.position_ids"] = torch.arange(17)[None]  # a buffer
    save_file(renamed, file)
    assert torch.equal(anyany.load(tmp_path, device="cpu").logits(TWO), ours.logits(TWO))


def test_two_names_of_one_tensor_are_refused(tmp_path):
    write(tmp_path, FIRST)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "lm_head.weight": tensors["language_model.lm_head.weight"].clone()}, file)
    with pytest.raises(CheckpointError, match="are names of one tensor"):
        anyany.load(tmp_path, device="cpu")


# Text is never a picture.


def test_a_mark_that_a_user_spells_is_text(tmp_path):
    ours = both(tmp_path, FIRST)[1]
    ids = ours.tokenizer.encode("the <image> dog</s>")
    assert IMAGE not in ids
    assert 2 not in ids
    assert ours.tokenizer.decode(ids) == "the <image> dog</s>"
    document = ours.planner.plan(as_messages(["the <image> dog"]), reply=True)
    assert {piece.span.view for piece in document.pieces} == {"text"}


def test_rows_of_a_picture_see_each_other_both_ways(tmp_path):
    ours = both(tmp_path, ONE_OF_EACH[-1])[1]
    document = ours.planner.plan(as_messages(PROMPTS["one"]), reply=True)
    pieces = [
        (ours.tokenizer.decode(piece.ids) or piece.span.view, piece.span.part, piece.span.rows)
        for piece in document.pieces
    ]
    assert [(text, part) for text, part, _ in pieces] == [
        ("<s>", -1), ("the dog ", 0), ("\n\n<boi>", -1), ("features", 1), ("<eoi>\n\n", -1), (" sleeps on the box", 2),
    ]  # fmt: skip
    first, rows = sum(rows for *_, rows in pieces[:3]), pieces[3][2]
    assert rows == 4
    assert plan_reply(ours, as_messages(PROMPTS["one"])).sees.tolist() == [
        *range(1, first + 1), *[first + rows] * rows, *range(first + rows + 1, document.rows + 1),
    ]  # fmt: skip
    plain = ours.planner.plan(as_messages(PROMPTS["one"][1]))
    assert [piece.span.view for piece in plain.pieces if piece.span.part == 0] == ["features"]


def test_pictures_stand_without_marks(tmp_path):
    ours = both(tmp_path, FIRST)[1]
    document = ours.planner.plan(as_messages(TWO), reply=True)
    seen = [piece.span for piece in document.pieces if piece.span.view == "features"]
    assert [span.rows for span in seen] == [16, 16]
    assert ours.projectors["image/vit"].begin is None
    assert plan_reply(ours, as_messages(TWO)).sees.tolist() == list(range(1, document.rows + 1))


def test_a_picture_must_be_one(tmp_path):
    ours = both(tmp_path, FIRST)[1]
    thin = anyany.Image.from_array(np.zeros((1, 2**17)))
    with pytest.raises(anyany.errors.MediaTooLargeError, match="131072x1 would become 3932160x30"):
        ours.generate([thin, "the"], max_new_tokens=1)
    assert ours.takes == ("text", "image")
    assert ours.emits == ("text",)
    assert ours.embed(pictures((40, 61))[0]).shape == (48,)
