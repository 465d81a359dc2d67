"""Generation keeps matrices as a CPU reads them fastest; training finds them as it left them."""

from __future__ import annotations

import torch

from anyany.backbone.memory_order import order_for_decoding, order_for_training


def wide(model):
    return [w for w in model.matrices() if w.shape[0] > w.shape[1]]


def test_generation_orders_and_training_takes_it_back(make_model):
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
    order_for_training([wide, square, tall])
    assert wide.is_contiguous()
    assert torch.equal(wide, values)
