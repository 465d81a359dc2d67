"""What llama.cpp reads are the weights of transformers, bit for bit, heads turned in its way."""

from __future__ import annotations

import sys

import gguf
import pytest
import torch

from anyany.bench import llamacpp
from anyany.bench.twins import llama
from anyany.errors import MissingPackageError


@pytest.fixture(scope="module")
def model():
    return llama("10m", 64).bfloat16()


@pytest.fixture(scope="module")
def read(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    llamacpp.write(model, path)
    return gguf.GGUFReader(path)


def test_every_weight_is_there(model, read):
    assert sum(int(t.n_elements) for t in read.tensors) == sum(p.numel() for p in model.parameters())
    found = {t.name: torch.tensor(gguf.quants.dequantize(t.data, t.tensor_type)) for t in read.tensors}
    layer = model.model.layers[3]
    torch.testing.assert_close(found["blk.3.ffn_gate.weight"], layer.mlp.gate_proj.weight.float(), rtol=0, atol=0)
    torch.testing.assert_close(found["blk.3.attn_norm.weight"], layer.input_layernorm.weight.float(), rtol=0, atol=0)
    torch.testing.assert_close(found["token_embd.weight"], model.model.embed_tokens.weight.float(), rtol=0, atol=0)


def test_numbers_that_turn_together_are_neighbours(model, read):
    found = next(t for t in read.tensors if t.name == "blk.0.attn_k.weight")
    ours = torch.tensor(gguf.quants.dequantize(found.data, found.tensor_type))
    theirs = model.model.layers[0].self_attn.k_proj.weight.float()
    half = model.config.head_dim // 2
    torch.testing.assert_close(ours[0::2][:half], theirs[:half], rtol=0, atol=0)
    torch.testing.assert_close(ours[1::2][:half], theirs[half : 2 * half], rtol=0, atol=0)


def test_without_llamacpp_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    llamacpp._engine.cache_clear()
    with pytest.raises(MissingPackageError, match="llamacpp"):
        llamacpp._engine()
