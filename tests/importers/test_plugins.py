"""Importers of plugins: a family that the core does not know, rivals, and factories that are at fault."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
from parity.cases import CASES
from parity.compare import apart, write
from safetensors.torch import load_file, save_file

import anyany
from anyany.errors import AmbiguousComponentError, CheckpointError, PluginError
from anyany.plugin import ANYANY_API, Importer, ImporterSpec, LanguageModel, Names, hookimpl
from anyany.plugin.registry import Registry

LLAMA = next(case for case in CASES if case.family == "Llama")


def alpaca() -> Importer:
    """A Llama with another key and two other names; the contract is all that it imports."""

    def describe(config):
        if config["hidden_act"] != "silu":
            raise CheckpointError(f"config.json: hidden_act must be 'silu' here, got {config['hidden_act']!r}")
        numbers = {
            "width": config["hidden_size"], "layers": config["num_hidden_layers"],
            "heads": config["num_attention_heads"], "kv_heads": config["num_key_value_heads"],
            "hidden": config["inner_size"], "theta": config["rope_parameters"]["rope_theta"],
        }  # fmt: skip
        return LanguageModel(backbone=numbers, vocab=config["vocab_size"])

    return Importer(
        describe=describe,
        names=Names(
            top={"backbone.norm": "model.last_norm", "text.embedding": "model.embed_tokens", "text.output": "lm_head"},
            layer="model.layers.{layer}.",
            block={
                "mixer_norm": ("input_layernorm",),
                "mixer.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                "mixer.out": ("self_attn.o_proj",),
                "ff_norm": ("norm_of_the_mlp",),
                "ff.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
                "ff.down": ("mlp.down_proj",),
            },
        ),
    )


def broken():
    return 3


def registry_with(*specs: ImporterSpec) -> Registry:
    module = ModuleType("herd_manifest")
    module.ANYANY_API = ANYANY_API
    module.anyany_importers = hookimpl(lambda: specs, specname="anyany_importers")
    found = Registry.isolated()
    found.register(module, "herd")
    return found


def spec(**changes) -> ImporterSpec:
    values = {"id": "herd/alpaca", "model_types": ("alpaca",), "factory": f"{__name__}:alpaca"}
    return ImporterSpec(**(values | changes))


@pytest.fixture
def folder(tmp_path):
    """A Llama that transformers wrote, renamed as if somebody else had; and what transformers reads before."""
    theirs = write(tmp_path, LLAMA)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_type"], config["inner_size"] = "alpaca", config.pop("intermediate_size")
    (tmp_path / "config.json").write_text(json.dumps({**config, "inner_size": theirs.config.intermediate_size}))
    changed = {"model.norm.": "model.last_norm.", "post_attention_layernorm": "norm_of_the_mlp"}
    tensors = {}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        for before, after in changed.items():
            name = name.replace(before, after)
        tensors[name] = tensor
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path, theirs


def test_a_family_that_a_plugin_knows(folder, tmp_path):
    path, theirs = folder
    plugins = registry_with(spec())
    ours = anyany.load(path, device="cpu", plugins=plugins)
    assert max(apart(theirs, ours, steps=4)[:3]) < 1e-4
    ours.save(tmp_path / "ours")
    again = anyany.load(tmp_path / "ours", device="cpu", plugins=Registry.isolated())  # no importer is needed
    assert again.generate("the dog", max_new_tokens=4).text == ours.generate("the dog", max_new_tokens=4).text


def test_without_the_plugin_the_type_is_not_known(folder):
    with pytest.raises(CheckpointError, match="model_type 'alpaca' is not known; known are gpt2"):
        anyany.load(folder[0], device="cpu", plugins=Registry.isolated())


def test_rivals_are_named(folder):
    plugins = registry_with(spec(), spec(id="herd/vicuna"))
    with pytest.raises(AmbiguousComponentError, match="claimed by herd/alpaca, herd/vicuna; set ANYANY_BLOCK"):
        anyany.load(folder[0], device="cpu", plugins=plugins)


def test_a_type_of_the_core_is_not_taken_over_in_silence(tmp_path):
    write(tmp_path, LLAMA)
    with pytest.raises(AmbiguousComponentError, match="'llama' is claimed by llama, herd/alpaca"):
        anyany.load(tmp_path, device="cpu", plugins=registry_with(spec(model_types=("llama",))))


def test_a_factory_that_makes_no_importer(folder):
    with pytest.raises(PluginError, match=r"herd/alpaca: its factory must return an Importer .*, got int"):
        anyany.load(folder[0], device="cpu", plugins=registry_with(spec(factory=f"{__name__}:broken")))


@pytest.mark.parametrize("types", [(), (3,)])
def test_a_spec_must_name_a_type(types):
    with pytest.raises(PluginError, match="herd/alpaca: model_types must name at least one"):
        registry_with(spec(model_types=types))
