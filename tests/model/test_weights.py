"""Small integers: what is decoded is near, what is saved and trained is exact, what cannot be had is said."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import anyany
from anyany.errors import CheckpointError, NativeError
from anyany.native import library
from anyany.parts import Message

needed = pytest.mark.skipif(library() is None, reason="no native library")


@pytest.fixture
def saved(make_model, tmp_path):
    make_model().save(tmp_path / "m")
    return tmp_path / "m"


@needed
@pytest.mark.parametrize("form", ["int8", "int4"])
def test_a_model_decodes_with_them_and_saves_its_own(saved, plugins, tmp_path, form):
    model = anyany.load(saved, plugins=plugins, weights=form)
    assert model.generate("hello", max_new_tokens=4, seed=1).parts
    model.save(tmp_path / "again")
    for shard in saved.glob("*.safetensors"):
        again = load_file(tmp_path / "again" / shard.name)
        for name, tensor in load_file(shard).items():
            assert torch.equal(again[name], tensor)


@needed
def test_int8_says_nearly_what_the_model_says(saved, plugins):
    """Log-probabilities of the same greedy words."""
    exact = anyany.load(saved, plugins=plugins).generate("hello", want=["text"], max_new_tokens=3, temperature=0.0)
    near = anyany.load(saved, plugins=plugins, weights="int8")
    reply = near.generate("hello", want=["text"], max_new_tokens=3, temperature=0.0)
    assert reply.text == exact.text
    assert near.score("hello", reply) == anyany.load(saved, plugins=plugins).score(
        "hello", reply
    )  # many rows are exact


@needed
def test_training_is_that_of_the_weights(saved, plugins):
    losses = []
    for form in (None, "int4"):
        model = anyany.load(saved, plugins=plugins, weights=form).train()
        said = [Message("user", ("hello",)), Message("assistant", ("world",))]
        document = model.planner.plan(said, train=True)
        loss = sum(each.total for each in model([document]).values())
        loss.backward()
        losses.append((loss.item(), model.backbone.blocks[0].ff.down.weight.grad.clone()))
    assert losses[0][0] == losses[1][0]
    assert torch.equal(losses[0][1], losses[1][1])


def test_another_form_is_an_error(saved, plugins):
    with pytest.raises(CheckpointError, match=r"weights: expected 'int8' or 'int4'.*'int3'"):
        anyany.load(saved, plugins=plugins, weights="int3")


def test_without_the_library_it_is_said_at_once(saved, plugins, monkeypatch):
    monkeypatch.setenv("ANYANY_NATIVE", "0")
    with pytest.raises(NativeError, match=r"int8.*ANYANY_NATIVE=0.*leave weights out"):
        anyany.load(saved, plugins=plugins, weights="int8")


@needed
def test_types_that_the_library_does_not_know_are_said_at_once(saved, plugins):
    with pytest.raises(NativeError, match=r"float16.*leave weights out"):
        anyany.load(saved, plugins=plugins, weights="int8", dtype="float16")


@needed
def test_an_adapter_in_use_is_said(saved, plugins):
    model = anyany.load(saved, plugins=plugins, weights="int8")
    model.adapters.add("lora", ["backbone"], rank=2)
    assert model.generate("hello", max_new_tokens=2).parts
    model.adapters.use("lora")
    with pytest.raises(NativeError, match=r"int8.*hooks"):
        model.generate("hello", max_new_tokens=2)
