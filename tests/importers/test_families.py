"""Files as older versions wrote them, and what each family refuses by name."""

from __future__ import annotations

import json

import pytest
import torch
from parity.cases import CASES, VOCAB, Case
from parity.compare import apart, write
from safetensors.torch import load_file, save_file

import anyany
from anyany.backbone import BackboneConfig, build
from anyany.errors import AnyanyError, CheckpointError
from anyany.importers.known import importer_of
from anyany.plugin.registry import Registry

FIRST = {case.family: case for case in reversed(CASES)}  # the first variant of each


def edit(folder, **changes):
    """Change keys of the config; ``None`` takes one away."""
    file = folder / "config.json"
    data = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def same(folder, case: Case) -> None:
    """What transformers reads from the directory is what we read."""
    theirs = case.kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    assert max(apart(theirs, anyany.load(folder, device="cpu"), steps=3)[:3]) < 1e-4


def test_gpt2_as_it_was_published(tmp_path):
    """Names without the name of the model, and masks among the weights."""
    case = FIRST["GPT-2"]
    write(tmp_path, case)
    file = tmp_path / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    tensors |= {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64).tril() for i in range(3)}
    tensors["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, file, metadata={"format": "pt"})
    same(tmp_path, case)


def test_a_model_without_its_output_matrix(tmp_path):
    write(tmp_path, FIRST["Llama"])
    file = tmp_path / "model.safetensors"
    save_file({n.removeprefix("model."): t for n, t in load_file(file).items() if n != "lm_head.weight"}, file)
    with pytest.raises(CheckpointError, match=r"lacks the tensor 'lm_head.weight' of shape \(320, 48\)"):
        anyany.load(tmp_path, device="cpu")


OLD = {
    "Gemma 2": {"rope_parameters": None, "rope_theta": 300.0, "layer_types": None, "use_bidirectional_attention": None},
    "Gemma 3": {
        "rope_parameters": None, "rope_theta": 700.0, "rope_local_base_freq": 30.0, "layer_types": None,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0}, "sliding_window_pattern": 2,
    },
    "Phi-3": {
        "rope_parameters": None, "rope_theta": 300.0, "original_max_position_embeddings": 64,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.5, 2.0], "long_factor": [2.0] * 3},
    },
    "SmolLM3": {"rope_parameters": None, "no_rope_layers": None, "no_rope_layer_interval": 2, "layer_types": None},
    "Mixtral": {"rope_parameters": None, "head_dim": None},
    "Qwen3-MoE": {"rope_parameters": None, "rope_theta": 50.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "OLMo 2": {"rope_parameters": None, "rope_theta": 50.0},
}  # fmt: skip


@pytest.mark.parametrize("family", OLD)
@pytest.mark.filterwarnings("ignore")
def test_older_configs(tmp_path, family):
    write(tmp_path, FIRST[family])
    edit(tmp_path, **OLD[family])
    same(tmp_path, FIRST[family])


YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 100.0}
REFUSED = {
    "GPT-2, activation": ("GPT-2", {"activation_function": "relu"}, "activation_function must be 'gelu_new' or"),
    "GPT-2, cross attention": ("GPT-2", {"add_cross_attention": True}, "add_cross_attention must be False here"),
    "GPT-2, width": ("GPT-2", {"n_head": 5}, "n_embd must be a multiple of n_head, got 48 and 5"),
    "Gemma 2, both ways": ("Gemma 2", {"use_bidirectional_attention": True}, "use_bidirectional_attention must be"),
    "Gemma 2, gate": ("Gemma 2", {"hidden_activation": "gelu"}, "hidden_activation must be 'gelu_pytorch_tanh' here"),
    "Gemma 2, cap": ("Gemma 2", {"attn_logit_softcapping": -1.0}, "attn_logit_softcapping must be a number above 0"),
    "Gemma 2, layers": ("Gemma 2", {"layer_types": ["full_attention"]}, "layer_types must name 4 full or sliding"),
    "Gemma 3, caps": ("Gemma 3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping must be None here, got 50"),
    "Gemma 3, flat positions": ("Gemma 3", {"rope_parameters": YARN}, "must be those of full_attention and sliding"),
    "Gemma 3, local positions": (
        "Gemma 3", {"rope_parameters": {"sliding_attention": YARN}}, "rotary scaling must be one of default, got 'yarn'"
    ),
    "Gemma 3, with pictures": (
        "Gemma 3", {"model_type": "gemma3"}, "expected preprocessor_config.json or processor_config.json"
    ),
    "Gemma 3, with sound": ("Gemma 3", {"model_type": "gemma3n"}, "'gemma3n' is not known; .* gemma3"),
    "Phi-3, scaling": ("Phi-3", {"rope_parameters": YARN}, "must be default or longrope here, got 'yarn'"),
    "Phi-3, factors": (
        "Phi-3", {"rope_parameters": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0] * 3}},
        r"short_factor must be 3 numbers above 0, got \[1.0\]",
    ),
    "SmolLM3, windows": (
        "SmolLM3", {"layer_types": ["sliding_attention"] * 4}, "use_sliding_window must be true then"
    ),
    "SmolLM3, positions": ("SmolLM3", {"no_rope_layers": [1]}, r"must say 1 or 0 for 4 layers, got \[1\]"),
    "Mixtral, experts": ("Mixtral", {"num_experts_per_tok": 9}, "must be at most num_local_experts, got 9 and 8"),
    "Qwen3-MoE, layers": ("Qwen3-MoE", {"mlp_only_layers": "all"}, "mlp_only_layers must be a list of whole numbers"),
    "Llama, scaling": ("Llama", {"rope_parameters": {"rope_type": "su"}}, "llama3, yarn, got 'su'"),
    "Llama, dynamic": (
        "Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": None},
        "max_position_embeddings must be a whole number above 0, got None",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("family", "changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_by_name(tmp_path, family, changes, message):
    write(tmp_path, FIRST[family])
    edit(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        anyany.load(tmp_path, device="cpu")


JUNK = ["x", 2.5, -1, True, [], ["x"], {"a": 1}, {"rope_type": ["x"]}]


@pytest.mark.parametrize("family", FIRST)
def test_junk_is_a_typed_error_or_unused(family):
    config = FIRST[family].config().to_dict()
    importer = importer_of(config, Registry.isolated())
    usual, refused = importer.describe(config).backbone, set()
    for key in config:
        for junk in JUNK:
            try:
                numbers = importer.describe({**config, key: junk}).backbone
                if numbers != usual:
                    with torch.device("meta"):
                        build(BackboneConfig.from_json(numbers))
            except AnyanyError:
                refused.add(key)
    assert len(refused) > 8


def test_scaled_embeddings_round_as_transformers_rounds_them(tmp_path):
    """In bfloat16 the root of the width is rounded before it multiplies."""
    case = FIRST["Gemma 2"]
    write(tmp_path, case)
    theirs = case.kind.from_pretrained(tmp_path, dtype=torch.bfloat16)
    ours = anyany.load(tmp_path, device="cpu", dtype="bfloat16")
    ids = torch.arange(3, VOCAB)
    assert torch.equal(ours.text.embed(ids), theirs.model.embed_tokens(ids))
    norm = theirs.model.layers[0].input_layernorm
    x = torch.randn(5, 48, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(ours.backbone.blocks[0].mixer_norm(x), norm(x))
