"""Directories of LLaVA that are refused, and what the error names; and what published files leave out."""

from __future__ import annotations

import json

import pytest
import torch
from parity.seeing import CASES, PROMPTS, write
from safetensors.torch import load_file, save_file

import anyany
from anyany.errors import CheckpointError
from anyany.importers.foreign import describe
from anyany.plugin.registry import registry

ONE = PROMPTS["one"]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, CASES[0])
    return tmp_path


def change(folder, name, *path, value):
    """Set a value in a JSON file."""
    data = json.loads((folder / name).read_text())
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (folder / name).write_text(json.dumps(data))


REFUSED = [
    ("projector_hidden_act", "relu", "config.json: projector_hidden_act must be 'gelu'"),
    ("vision_feature_select_strategy", "cls", "vision_feature_select_strategy must be 'default' or 'full'"),
    ("vision_feature_layer", -6, "vision_feature_layer must be one or several numbers from -5 to 4, got -6"),
    ("vision_feature_layer", [1, "2"], "vision_feature_layer must be"),
    ("multimodal_projector_bias", "yes", "multimodal_projector_bias must be true or false"),
    ("image_token_index", 0.5, "image_token_index must be a whole number"),
    ("quantization_config", {"bits": 4}, "quantization_config must be None"),
    ("text_config", {"model_type": "smollm"}, "model_type 'smollm' is not known; the nearest are smollm3"),
    ("text_config", {"model_type": "llava"}, "the language model inside must be one that speaks text alone"),
    ("vision_config", {"model_type": "pixtral"}, "vision_config: model_type must be 'clip_vision_model' here"),
    ("vision_config.hidden_act", "relu", "config.json: vision_config: hidden_act must be one of"),
    ("vision_config.num_channels", 1, "vision_config: num_channels must be 3"),
    ("vision_config.image_size", [30, 40], "vision_config: image_size must be a whole number"),
    ("vision_config.num_attention_heads", 5, "hidden_size must be a multiple of num_attention_heads"),
    ("vision_config.patch_size", 31, "patch_size must be at most image_size"),
    ("vision_config.image_size", 37, "pictures of 30 pixels a side, config.json says 37"),
    ("vision_config.intermediate_size", 41, r"has shape \(40,\), config.json says \(41,\)"),
    ("vision_config.num_hidden_layers", 3, "has the tensor 'vision_tower.encoder.layers.3"),
]


@pytest.mark.parametrize(("key", "value", "told"), REFUSED, ids=[f"{k} {v}" for k, v, _ in REFUSED])
def test_values_of_the_config_that_are_refused(folder, key, value, told):
    change(folder, "config.json", *key.split("."), value=value)
    with pytest.raises(CheckpointError, match=told):
        anyany.load(folder, device="cpu")


PREPARING = [
    ("do_resize", False, "processor_config.json: image_processor: do_resize must be True"),
    ("do_normalize", False, "do_normalize must be True"),
    ("do_pad", True, "do_pad must be None or False"),
    ("resample", 0, r"resample must be 2 .* or 3"),
    ("image_std", [0.5, 0, 0.5], "image_std must be three numbers above 0"),
    ("image_mean", 0.5, "image_mean must be three numbers"),
    ("size", {"longest_edge": 30}, "size must be one number of pixels for shortest_edge"),
    ("crop_size", {"height": 30, "width": 31}, "crop_size must be one number of pixels for height and width"),
    ("crop_size", 29, "pictures of 29 pixels a side, config.json says 30"),
]


@pytest.mark.parametrize(("key", "value", "told"), PREPARING, ids=[f"{k} {v}" for k, v, _ in PREPARING])
def test_ways_to_prepare_pictures_that_are_refused(folder, key, value, told):
    change(folder, "processor_config.json", "image_processor", key, value=value)
    with pytest.raises(CheckpointError, match=told):
        anyany.load(folder, device="cpu")


def test_a_directory_without_its_processor(folder):
    (folder / "processor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"expected preprocessor_config\.json or"):
        anyany.load(folder, device="cpu")


@pytest.mark.parametrize(
    "name", ["multi_modal_projector.linear_2.bias", "vision_tower.encoder.layers.0.self_attn.k_proj.bias"]
)
def test_tensors_that_are_missing_or_of_another_shape(folder, name):
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, name: tensors[name][:-1].clone()}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"'{name}' has shape"):
        anyany.load(folder, device="cpu")
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"lacks the tensor '{name}'"):
        anyany.load(folder, device="cpu")


def test_the_older_file_of_how_pictures_are_prepared(folder):
    wanted = anyany.load(folder, device="cpu").logits(ONE)
    told = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    (folder / "processor_config.json").unlink()
    told = {**told, "size": 30, "crop_size": 30}  # numbers, as files before transformers 4.26 have them
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    assert torch.equal(anyany.load(folder, device="cpu").logits(ONE), wanted)


def test_what_published_files_leave_out():
    """The ``config.json`` of LLaVA-1.5 7B as it is published, but for names of people and the token of padding."""
    config = {
        "model_type": "llava", "image_token_index": 32000, "projector_hidden_act": "gelu",
        "text_config": {
            "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096, "model_type": "llama",
            "rms_norm_eps": 1e-05, "torch_dtype": "float16", "vocab_size": 32064,
        },
        "vision_config": {
            "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "model_type": "clip_vision_model",
            "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
            "vocab_size": 32000,
        },
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
    }  # fmt: skip
    found = describe(config, {"preprocessor_config.json": {"size": 336, "crop_size": 336}}, registry())
    numbers = found.language.backbone
    assert (numbers["width"], numbers["layers"], numbers["hidden"], numbers["heads"]) == (4096, 32, 11008, 32)
    assert (found.language.vocab, found.language.tied, numbers["norm_eps"]) == (32064, False, 1e-5)
    tower = found.encoders[0].config
    assert (tower["width"], tower["depth"], tower["size"], tower["patch"]) == (1024, 24, 336, 14)
    assert (tower["activation"], tower["eps"], tower["layers"]) == ("quick_gelu", 1e-5, [-2])
    assert found.encoders[0].token == 32000
    from transformers import LlavaConfig

    usual = LlavaConfig(**config)
    assert usual.text_config.num_key_value_heads == numbers["kv_heads"]
    assert usual.text_config.intermediate_size == numbers["hidden"]
