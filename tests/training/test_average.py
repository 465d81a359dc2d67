"""The running average of weights: its formula, what it leaves alone, and exact resumption."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anyany.errors import CheckpointError
from anyany.training.average import Average


def module() -> nn.Module:
    torch.manual_seed(0)
    both = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    both[1].bias.requires_grad_(False)
    return both


def test_it_is_the_formula_with_a_rising_decay():
    model = module()
    average = Average(model, 0.5)
    expected = model[0].weight.detach().double()
    for step in range(1, 15):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(2, 3))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model[0].weight.detach().double()
    torch.testing.assert_close(average.averages["0.weight"].double(), expected, rtol=1e-5, atol=1e-5)
    assert "1.bias" not in average.averages


def test_within_the_model_holds_the_averages_and_afterwards_its_own():
    model = module().bfloat16()
    average = Average(model, 0.9)
    assert {a.dtype for a in average.averages.values()} == {torch.float32}
    for value in average.averages.values():
        value.add_(1.0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with average.in_place():
        for name, parameter in average.weights.items():
            assert torch.equal(parameter, average.averages[name].bfloat16())
        assert torch.equal(model[1].bias, before["1.bias"])  # frozen: as it was
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_small_changes_are_not_lost_in_a_narrow_type():
    model = module().bfloat16()
    average = Average(model, 0.999)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    start = average.averages["0.weight"].clone()
    for _ in range(1000):
        average.update(10**6)
    moved = (average.averages["0.weight"] - start) / (model[0].weight.float() - start)
    torch.testing.assert_close(moved, torch.full((2, 3), 1 - 0.999**1000), rtol=1e-3, atol=1e-3)


def test_it_goes_on_from_a_checkpoint_and_refuses_another_model():
    one, other = Average(module(), 0.9), Average(module(), 0.9)
    for value in one.averages.values():
        value.mul_(3.0)
    other.load({"model.x": torch.zeros(1), **one.tensors()})
    assert all(torch.equal(other.averages[n], a) for n, a in one.averages.items())
    for wrong in ({}, {**one.tensors(), "average.more": torch.zeros(1)}):
        with pytest.raises(CheckpointError, match="average"):
            other.load(wrong)
