"""Language models that transformers wrote: the same logits, whole and cached; saved in our form; and back."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
import transformers
from parity.cases import CASES, TRAINED, VOCAB, Case
from parity.compare import apart, both, cached, uncached, write, write_words

import anyany
from anyany.errors import CheckpointError, LayoutError

ATOL = 1e-4
FIRST = [next(c for c in CASES if c.family == family) for family in dict.fromkeys(c.family for c in CASES)]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
one_of_each = pytest.mark.parametrize("case", FIRST, ids=lambda case: case.family)


@each
def test_logits_equal_transformers(tmp_path, case):
    far = apart(*both(tmp_path, case))
    assert far.spread > 0.3  # a flat model would agree with anything
    assert max(far.prefill, far.steps, far.uncached) < ATOL


@one_of_each
def test_greedy_tokens_equal_transformers(tmp_path, case):
    theirs = write(tmp_path, case)
    write_words(tmp_path)
    ids = torch.randint(3, VOCAB, (9,), generator=torch.Generator().manual_seed(2))
    made = theirs.generate(ids[None], max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)[0, 9:]
    made = made[: made.tolist().index(2)] if 2 in made else made
    assert len(set(made.tolist())) > 1
    reply = anyany.load(tmp_path, device="cpu").generate(text(ids), max_new_tokens=24)
    assert reply.text == text(made)


def text(ids):
    return " ".join(f"w{i}" for i in ids.tolist())


@one_of_each
def test_a_batch_of_different_lengths_is_each_alone(tmp_path, case):
    ours = both(tmp_path, case)[1]
    prompts = ["the lazy", "the quick brown fox jumps over the lazy dog, and", "dog dog dog", "a"]
    alone = [ours.generate(prompt, max_new_tokens=12).text for prompt in prompts]
    together = [reply.text for reply in ours.generate_batch(prompts, max_new_tokens=12)]
    assert together == alone
    assert len(set(alone)) > 1


@each
def test_our_own_form_gives_the_same_bits(tmp_path, case):
    imported = both(tmp_path / "theirs", case)[1]
    imported.save(tmp_path / "ours")
    again = anyany.load(tmp_path / "ours", device="cpu")
    ids = torch.randint(3, VOCAB, (21,), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert torch.equal(uncached(imported, ids), uncached(again, ids))
        for a, b in zip(cached(imported, ids, 18), cached(again, ids, 18), strict=True):
            assert torch.equal(a, b)


@pytest.mark.slow
def test_our_own_form_needs_no_transformers(tmp_path):
    both(tmp_path / "theirs", CASES[0])[1].save(tmp_path / "ours")
    code = """
        import sys
        sys.modules["transformers"] = None  # importing it raises
        import anyany
        for folder in sys.argv[1:]:
            print(anyany.load(folder, device="cpu").generate("the dog", max_new_tokens=5).text)
    """
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        textwrap.dedent(code),
        str(tmp_path / "theirs"),
        str(tmp_path / "ours"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second


@each
def test_the_way_back(tmp_path, case):
    theirs, ours = both(tmp_path / "theirs", case)
    ours.save(tmp_path / "ours")
    anyany.load(tmp_path / "ours", device="cpu").save_huggingface(tmp_path / "back")
    back = case.kind.from_pretrained(tmp_path / "back", attn_implementation="eager").eval()
    ids = torch.randint(3, VOCAB, (1, 24), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        assert torch.equal(back(ids).logits, theirs(ids).logits)
    state = back.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.state_dict().items())


def test_the_tokenizer_comes_back(tmp_path):
    ours = both(tmp_path / "theirs", CASES[0])[1]
    ours.save_huggingface(tmp_path / "back")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert tokenizer("the lazy dog")["input_ids"] == [1, *ours.tokenizer.encode("the lazy dog")]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    values = transformers.GenerationConfig.from_pretrained(tmp_path / "back")
    assert (values.do_sample, values.eos_token_id) == (False, [2])


def test_an_export_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("anyany.importers.export.SHARD", 20_000)
    theirs, ours = both(tmp_path / "theirs", CASES[0])
    ours.save_huggingface(tmp_path / "back")
    assert len(list((tmp_path / "back").glob("*.safetensors"))) > 2
    state = CASES[0].kind.from_pretrained(tmp_path / "back").state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.state_dict().items())
    ours.save_huggingface(tmp_path / "back")  # replaced whole: no shard is left over
    with pytest.raises(CheckpointError, match="found other files"):
        ours.save_huggingface(tmp_path / "theirs")


def test_what_has_no_way_back(tmp_path, make_model):
    with pytest.raises(CheckpointError, match="was not read from a Hugging Face directory"):
        make_model().save_huggingface(tmp_path / "a")
    ours = both(tmp_path / "theirs", CASES[0])[1]
    ours.origin["n_head"] = 2
    with pytest.raises(CheckpointError, match="not what its origin"):
        ours.save_huggingface(tmp_path / "b")


def test_more_than_text_has_no_way_back(tmp_path, plugins):
    both(tmp_path, CASES[0])
    model = anyany.compose(backbone=tmp_path, encoders=["imu/linear"], plugins=plugins)
    with pytest.raises(CheckpointError, match="this one imu/linear, too"):
        model.save_huggingface(tmp_path / "back")
    anyany.compose(backbone=tmp_path).save_huggingface(tmp_path / "back")


@pytest.mark.parametrize("family", ["Llama", "Gemma 2", "Mixtral"])
def test_gradients_of_a_step_equal_transformers(tmp_path, family):
    theirs, ours = both(tmp_path, next(case for case in FIRST if case.family == family))
    ids = torch.randint(3, VOCAB, (30,), generator=torch.Generator().manual_seed(7))
    theirs(ids[None], labels=ids[None]).loss.backward()
    at = torch.arange(30)
    intervals = torch.zeros(30, 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = at + 1
    hidden = ours.backbone(ours.text.embed(ids), at.float()[:, None].expand(-1, 3), intervals)
    loss = ours.text.loss(hidden[:-1], ids[1:], ours.calls())
    (loss.total / loss.rows).backward()
    from anyany.importers.known import importer_of
    from anyany.importers.places import places
    from anyany.plugin.registry import registry

    wanted = {name: p.grad for name, p in theirs.named_parameters()}
    found = {}
    mine = {name: p.grad for name, p in ours.named_parameters()}
    for key, place in places(ours, importer_of(ours.origin, registry()).names).items():
        found |= place.pieces(mine[key])
    if family == "Mixtral":  # transformers holds all experts of a layer in one tensor
        found = _stacked(found)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max() + 1), msg=name
        )


def _stacked(found):
    out = {}
    for name, tensor in found.items():
        name = name.replace("block_sparse_moe", "mlp")
        if ".experts." not in name:
            out[name] = tensor
    for layer in range(4):
        piece = f"model.layers.{layer}.block_sparse_moe.experts.{{}}.w{{}}.weight"
        gate_up = [torch.cat([found[piece.format(e, 1)], found[piece.format(e, 3)]]) for e in range(8)]
        out[f"model.layers.{layer}.mlp.experts.gate_up_proj"] = torch.stack(gate_up)
        out[f"model.layers.{layer}.mlp.experts.down_proj"] = torch.stack([found[piece.format(e, 2)] for e in range(8)])
    return out


@pytest.mark.parametrize(
    ("stem", "changes", "limit"),
    [
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e3, "factor": 2.0},
                   "max_position_embeddings": TRAINED}, TRAINED),
        ("Phi3", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e3, "short_factor": [1.0] * 3,
                                      "long_factor": [2.0] * 3}, "original_max_position_embeddings": TRAINED}, TRAINED),
        ("GPT2", {"vocab_size": VOCAB, "n_embd": 48, "n_layer": 1, "n_head": 4, "n_positions": 12}, 12),
    ],
    ids=["dynamic", "longrope", "learned"],
)  # fmt: skip
def test_beyond_the_trained_length_is_refused(tmp_path, stem, changes, limit):
    theirs, ours = both(tmp_path, Case(stem, "short", stem, {"bos_token_id": 1, "eos_token_id": 2, **changes}))
    far = apart(theirs, ours, prompt=limit - 3, steps=3)
    assert max(far.prefill, far.steps) < ATOL
    with pytest.raises(LayoutError, match=rf"positions: {limit + 1} needed, .* {limit}"):
        cached(ours, torch.full((limit + 1,), 5), limit)
    replies = ours.generate_batch(["the", "the dog " * limit], max_new_tokens=2, errors="return")
    assert replies[0].text
    assert isinstance(replies[1], LayoutError)  # and the other request of the batch goes on
