"""Generation keeps matrices as a CPU reads them fastest; training finds them as it left them."""

from __future__ import annotations

import pytest
import torch

from anyany.backbone.memory_order import order_by_rows, order_for_decoding
from anyany.native import library


def wide(model):
    return [w for w in model.matrices() if w.shape[0] > w.shape[1]]


def test_generation_orders_and_training_takes_it_back(make_model, monkeypatch):
    monkeypatch.setenv("ANYANY_NATIVE", "0")
    model = make_model(kind="codes").eval()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    first = model.generate("hello", want=["text", "imu"], max_new_tokens=4, seed=3)
    assert wide(model)
    assert all(w.stride(0) == 1 for w in wide(model))
    again = model.generate("hello", want=["text", "imu"], max_new_tokens=4, seed=3)
    assert again.text == first.text
    model.train()
    for name, parameter in model.named_parameters():
        assert parameter.is_contiguous(), name
        assert torch.equal(parameter, before[name])
        assert not parameter.is_inference()
    hidden = model.backbone.blocks[0].ff(model.text.embed(torch.tensor([1, 2])))
    model.text.logits(hidden).sum().backward()
    assert all(p.grad.is_contiguous() for p in model.parameters() if p.grad is not None)


@pytest.mark.skipif(library() is None, reason="no native library")
def test_the_native_library_reads_rows(make_model, monkeypatch):
    """Whatever order was there before; heads are PyTorch's in any case."""
    model = make_model(kind="flow").eval()
    for setting in ("0", ""):
        monkeypatch.setenv("ANYANY_NATIVE", setting)
        model.generate("hello", want=["text", "imu"], max_new_tokens=4, seed=3)
    read = {id(matrix) for matrix in model.step_matrices()}
    assert all(w.is_contiguous() for w in model.step_matrices())
    heads = [w for w in wide(model) if id(w) not in read]
    assert heads
    assert all(w.stride(0) == 1 for w in heads)


def test_a_model_that_trains_is_left_alone(make_model):
    model = make_model().train()
    model.generate("hello", want=["text"], max_new_tokens=2)
    assert all(p.is_contiguous() for p in model.parameters())
    model.eval()


def test_a_call_within_inference_mode_leaves_weights_that_learn(make_model):
    model = make_model().eval()
    with torch.inference_mode():
        model.generate("hello", want=["text"], max_new_tokens=2)
    assert not any(p.is_inference() for p in model.parameters())
    model.train()
    model.eval()


def test_square_and_tall_matrices_stay():
    wide, square, tall = torch.randn(6, 3), torch.randn(4, 4), torch.randn(3, 6)
    values = wide.clone()
    order_for_decoding([wide, square, tall])
    assert wide.stride() == (1, 6)
    assert square.is_contiguous()
    assert tall.is_contiguous()
    assert torch.equal(wide, values)
    order_by_rows([wide, square, tall])
    assert wide.is_contiguous()
    assert torch.equal(wide, values)
