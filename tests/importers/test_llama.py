"""Directories that transformers wrote, read by the importer: equal logits, equal greedy tokens, typed errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)  # fmt: skip

import anyany
from anyany.errors import CheckpointError, LayoutError
from anyany.importers.huggingface import load_huggingface
from anyany.model import Model

VOCAB = 60
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
CASES = {
    "gqa": {},
    "mha, tied": {"num_key_value_heads": 4, "tie_word_embeddings": True},
    "mqa": {"num_key_value_heads": 1},
    "wide heads": {"head_dim": 14},
    "uneven width": {"hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 6},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 4.0}},
    "llama3": {"rope_parameters": LLAMA3, "head_dim": 16},
}


def write_tokenizer(folder: Path, *, bos: bool = True) -> None:
    """Every token is a word, so that equal text is equal tokens."""
    words = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, VOCAB))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


def write(folder: Path, config=LlamaConfig, kind=LlamaForCausalLM, *, seed: int = 0, **changes) -> PreTrainedModel:
    torch.manual_seed(seed)
    theirs = kind(config(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # far from uniform, and no norm or bias at its start value
            parameter.copy_(parameter * 6 + 0.3 * torch.randn_like(parameter) if parameter.dim() > 1 else parameter)
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    theirs.save_pretrained(folder)
    write_tokenizer(folder)
    return theirs


@pytest.fixture
def words() -> torch.Tensor:
    return torch.randint(3, VOCAB, (40,), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def uncached(model: Model, ids: torch.Tensor) -> torch.Tensor:
    ends = torch.arange(1, len(ids) + 1, dtype=torch.int32)
    intervals = torch.zeros(len(ids), 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = ends
    at = (ends - 1).float()[:, None].expand(-1, 3)
    return model.text.logits(model.backbone(model.text.embed(ids), at, intervals))


@torch.no_grad()
def token_by_token(model: Model, ids: torch.Tensor) -> torch.Tensor:
    pool = model.backbone.new_pool(len(ids), dtype=next(model.parameters()).dtype, debug=True)
    run = pool.reserve(len(ids))
    rows = []
    for i, row in enumerate(model.text.embed(ids)):
        slots = slice(*pool.append(run, 1))
        intervals = torch.tensor([[[0, 0], [run.start, slots.stop]]], dtype=torch.int32)
        rows.append(model.backbone(row[None], torch.full((1, 3), float(i)), intervals, cache=pool, slots=slots))
    return model.text.logits(torch.cat(rows))


def check_logits(theirs: PreTrainedModel, ours: Model, ids: torch.Tensor) -> None:
    with torch.no_grad():
        want = theirs(ids[None]).logits[0]
    assert want.std() > 0.5  # a flat model would agree with anything
    for found in (uncached(ours, ids), token_by_token(ours, ids)):
        torch.testing.assert_close(found, want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_logits_equal_transformers(tmp_path, words, changes):
    theirs = write(tmp_path, **changes)
    check_logits(theirs, anyany.load(tmp_path, device="cpu"), words)


FAMILIES = {
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 5}),
    "mistral, no window": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "qwen2, windows": (
        Qwen2Config,
        Qwen2ForCausalLM,
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 12}),
    "qwen3, biases": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 8, "attention_bias": True}),
}


@pytest.mark.parametrize(("config", "kind", "changes"), FAMILIES.values(), ids=FAMILIES)
def test_other_families(tmp_path, words, config, kind, changes):
    theirs = write(tmp_path, config, kind, **changes)
    check_logits(theirs, anyany.load(tmp_path, device="cpu"), words)


def test_windows_of_files_without_layer_types(tmp_path, words):
    changes = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}
    theirs = write(tmp_path, Qwen2Config, Qwen2ForCausalLM, **changes)
    edit(tmp_path / "config.json", layer_types=None)
    check_logits(theirs, anyany.load(tmp_path, device="cpu"), words)


def test_old_names_of_rotary_scaling(tmp_path, words):
    theirs = write(tmp_path, rope_parameters=LLAMA3)
    old = {key: value for key, value in LLAMA3.items() if key not in ("rope_theta", "rope_type")}
    edit(tmp_path / "config.json", rope_parameters=None, rope_theta=5000.0, rope_scaling={**old, "type": "llama3"})
    check_logits(theirs, anyany.load(tmp_path, device="cpu"), words)


def test_shards(tmp_path, words):
    theirs = write(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    write_tokenizer(tmp_path / "many")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    ours = anyany.load(tmp_path / "many", device="cpu")
    check_logits(theirs, ours, words)
    torch.testing.assert_close(ours.state_dict(), anyany.load(tmp_path / "one", device="cpu").state_dict())


def text(ids: list[int]) -> str:
    return " ".join(f"w{i}" for i in ids)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True, "seed": 7}, {"rope_parameters": LLAMA3}])
def test_greedy_equals_transformers(tmp_path, words, changes):
    theirs = write(tmp_path, **changes)
    prompt = words[:7].tolist()
    ids = torch.tensor([[1, *prompt]])
    made = theirs.generate(ids, max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)
    ours = anyany.load(tmp_path, device="cpu")
    made = made[0, 8:].tolist()
    assert len(set(made)) > 4
    assert min(made) > 2  # no special token: then the words say it all
    assert ours.generate(text(prompt), max_new_tokens=24).text == text(made)


def test_the_end_token_ends_the_reply(tmp_path, words):
    theirs = write(tmp_path)
    ids = torch.tensor([[1, *words[:7].tolist()]])
    made = theirs.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)[0, 8:].tolist()
    at = next(i for i in range(3, 12) if made[i] not in made[:i])
    edit(tmp_path / "generation_config.json", eos_token_id=[2, made[at]])
    reply = anyany.load(tmp_path, device="cpu").generate(text(words[:7].tolist()), max_new_tokens=24)
    assert reply.text == text(made[:at])
    assert reply.finish == "stop"


def test_begin_token_only_where_the_tokenizer_adds_it(tmp_path, words):
    theirs = write(tmp_path)
    with_bos = anyany.load(tmp_path, device="cpu")
    write_tokenizer(tmp_path, bos=False)
    without = anyany.load(tmp_path, device="cpu")
    ids = words[:6]
    with torch.no_grad():
        want = theirs(torch.cat([torch.tensor([1]), ids])[None]).logits[0], theirs(ids[None]).logits[0]
    for model, logits in zip((with_bos, without), want, strict=True):
        torch.testing.assert_close(model.logits(text(ids.tolist())), logits, rtol=0, atol=1e-4)


def test_text_that_looks_like_a_mark_stays_text(tmp_path):
    write(tmp_path)
    ours = anyany.load(tmp_path, device="cpu")
    assert not {1, 2} & set(ours.tokenizer.encode("<s> w4 </s>"))


def test_sampling_values(tmp_path):
    write(tmp_path)
    assert anyany.load(tmp_path, device="cpu").generation["text"]["temperature"] == 0.0
    edit(tmp_path / "generation_config.json", do_sample=True, temperature=0.6, top_p=0.9)
    text = anyany.load(tmp_path, device="cpu").generation["text"]
    assert text == {"temperature": 0.6, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.0}
    (tmp_path / "generation_config.json").unlink()
    assert anyany.load(tmp_path, device="cpu").generation["text"]["temperature"] == 0.0


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True, "rope_parameters": LLAMA3}])
def test_own_form_gives_the_same_logits(tmp_path, words, changes):
    write(tmp_path / "theirs", **changes)
    imported = anyany.load(tmp_path / "theirs", device="cpu")
    imported.save(tmp_path / "ours")
    again = anyany.load(tmp_path / "ours", device="cpu")
    assert torch.equal(uncached(imported, words), uncached(again, words))
    prompt = text(words[:5].tolist())
    assert imported.generate(prompt, max_new_tokens=8).text == again.generate(prompt, max_new_tokens=8).text


def test_type_of_the_file_or_of_the_caller(tmp_path, words):
    write(tmp_path).to(torch.bfloat16).save_pretrained(tmp_path)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    half, full = load_huggingface(tmp_path), load_huggingface(tmp_path, dtype=torch.float32)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in full.parameters()} == {torch.float32}
    check_logits(theirs, full, words)
    near = torch.cosine_similarity(uncached(half, words).float(), uncached(full, words), dim=-1)
    assert near.min() > 0.99
    assert half.generate("w5 w6", max_new_tokens=3).text


def test_a_modality_on_top(tmp_path, plugins):
    from imu_plugin import Imu

    write(tmp_path)
    model = anyany.compose(backbone=tmp_path, encoders=["imu/linear"], decoders=["imu/signs"], plugins=plugins)
    reply = model.generate(["w7", model.encoders["imu/linear"].example(0)], want=["text", "imu"], max_new_tokens=3)
    assert isinstance(reply.parts[1], Imu)


# What is wrong is named.


def edit(file: Path, **changes) -> None:
    data = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is not known; .*known are gpt2, llama, mistral, qwen2, qwen3"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu' here, got 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config must be None"),
        ({"hidden_size": None}, "hidden_size must be a whole number above 0, got None"),
        ({"num_key_value_heads": 3}, "must be a multiple of num_key_value_heads, got 4 and 3"),
        ({"model_type": "qwen3moe"}, "the nearest are qwen3_moe, qwen3, qwen2; known are"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}, "auto_map names code .* is not run"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder must be False"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false, got 'no'"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps must be a number above 0, got -1.0"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "llama3, yarn, got 'longrope'"),
        ({"rope_parameters": {"rope_type": "linear"}}, "'linear' must .* for rope_theta, factor"),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "alpha": 1.0}},
            "no key but factor, .* truncate; got",
        ),
        ({"rope_parameters": {"rope_type": "default", "factor": 2.0}}, "no key but it; got"),
        ({"rope_parameters": {**LLAMA3, "high_freq_factor": 1.0}}, "must lie below high_freq_factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "must turn whole heads"),
        ({"vocab_size": 50}, "has 60 entries, config.json says vocab_size 50"),
        ({"eos_token_id": 99}, "eos_token_id must name tokens below 60"),
        ({"eos_token_id": None}, "eos_token_id must name tokens below 60"),
    ],
)
def test_configs_that_are_not_known(tmp_path, changes, message):
    write(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    edit(tmp_path / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        anyany.load(tmp_path, device="cpu")


def test_odd_heads_cannot_turn(tmp_path):
    write(tmp_path)
    edit(tmp_path / "config.json", head_dim=7)
    with pytest.raises(LayoutError, match="even head width, got 7"):
        anyany.load(tmp_path, device="cpu")


def broken(folder: Path, change) -> None:
    write(folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        anyany.load(folder, device="cpu")
    raise caught.value


NAME = "model.layers.1.self_attn.k_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), rf"lacks the tensor '{NAME}' of shape \(16, 32\)"),
        (lambda t: t.update(extra=torch.zeros(3)), r"has the tensor 'extra' of shape \(3,\)"),
        (lambda t: t.update({NAME: torch.zeros(32, 32)}), rf"'{NAME}' has shape \(32, 32\), .* says \(16, 32\)"),
        (lambda t: t.update({NAME: torch.zeros(16, 32, dtype=torch.int8)}), f"'{NAME}' is torch.int8"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        broken(tmp_path, change)


@pytest.mark.parametrize("same", [True, False])
def test_a_tied_file_may_repeat_its_embedding(tmp_path, words, same):
    theirs = write(tmp_path, tie_word_embeddings=True)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + (0 if same else 1)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, file, metadata={"format": "pt"})
    if same:
        check_logits(theirs, anyany.load(tmp_path, device="cpu"), words)
    else:
        with pytest.raises(CheckpointError, match=r"has the tensor 'lm_head.weight'"):
            anyany.load(tmp_path, device="cpu")


def test_pickled_weights_are_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pickled weights \(pytorch_model.bin\)"):
        anyany.load(tmp_path, device="cpu")
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"expected model.safetensors or model.safetensors.index.json"):
        anyany.load(tmp_path, device="cpu")


def test_damaged_and_missing_files(tmp_path):
    write(tmp_path).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    folder = tmp_path / "shards"
    write_tokenizer(folder)
    shard = sorted(folder.glob("*.safetensors"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=f"{shard.name}: is damaged"):
        anyany.load(folder, device="cpu")
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard.name}: expected in .*, not found"):
        anyany.load(folder, device="cpu")
    shard.write_bytes(sorted(folder.glob("*.safetensors"))[0].read_bytes())
    with pytest.raises(CheckpointError, match=f"{shard.name}: (lacks a tensor of|has a tensor that) the index"):
        anyany.load(folder, device="cpu")
    index = folder / "model.safetensors.index.json"
    edit(index, weight_map={NAME: "../model.safetensors"})
    with pytest.raises(CheckpointError, match="must lie in a file of the directory"):
        anyany.load(folder, device="cpu")
    edit(index, weight_map=[])
    with pytest.raises(CheckpointError, match="expected a weight_map"):
        anyany.load(folder, device="cpu")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer.json: expected in"):
        anyany.load(tmp_path, device="cpu")


def test_a_tokenizer_that_adds_more_than_a_begin_token(tmp_path):
    write(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    special = [("<s>", 1), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="at most one token before a text"):
        anyany.load(tmp_path, device="cpu")
