"""Benchmarks of the native library compare what says the same, and refuse what does not."""

from __future__ import annotations

import os

import pytest
import torch

from anyany.bench import native, tiny, twins
from anyany.errors import AnyanyError
from anyany.native import choice, library

pytest.importorskip("transformers")
pytestmark = pytest.mark.skipif(library() is None, reason="no native library")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    monkeypatch.setitem(twins.SHAPES, "240m", shape)
    monkeypatch.setattr(native, "NEW", 5)
    for made in (twins.twins, native._shrunk):
        made.cache_clear()
    yield
    for made in (twins.twins, native._shrunk):
        made.cache_clear()


@pytest.mark.parametrize("on", [True, False])
def test_bfloat16_with_and_without_the_library(on, monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "")
    figure = native.against(1, native=on)
    assert figure.id == ("C1" if on else "C1-pytorch")
    assert os.environ[choice.VARIABLE] == ""


def test_bytes_per_token_hold_weights_and_cache():
    figure, pair = native.bandwidth(1), twins.twins("240m", torch.bfloat16)
    assert f"{pair.read() / 1e6:.0f} MB" in figure.what  # a cache of 80 rows is too small to show
    assert pair.read() == 2 * (pair.parameters - pair.ours.text.embedding.weight.numel())


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_small_integers(form):
    assert native.smaller(form, 1.0, 1).id == f"C4-{form}"
    assert native._shrunk(form).backbone.weights == form
    assert twins.twins("240m", torch.bfloat16).ours.backbone.weights is None


def test_other_weights_are_no_comparison():
    pair = twins.twins("240m", torch.bfloat16)
    pair.ours.backbone.blocks[1].ff.down.weight.data.mul_(-1)
    with pytest.raises(AnyanyError, match="C1: the logits are"):
        native.against(1, native=True)


@pytest.mark.slow
def test_mini_says_what_its_weights_say_in_transformers(monkeypatch):
    tiny.pair.cache_clear()
    model, _ = tiny.pair()
    assert len(tiny._stream(model, 3)) < len(tiny._stream(model, 9))
    tiny.pair.cache_clear()
    qwen = tiny._qwen

    def other(model):
        theirs = qwen(model)
        theirs.model.layers[0].mlp.down_proj.weight.data.mul_(-1)
        return theirs

    monkeypatch.setattr(tiny, "_qwen", other)
    with pytest.raises(AnyanyError, match="tiny: the replies differ"):
        tiny.pair()
    tiny.pair.cache_clear()
