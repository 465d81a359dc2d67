"""Adapters beside projections: what is added, to which rows, and what merging does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anyany.backbone.builder import BackboneConfig, build
from anyany.backbone.lora import LoRA, attach, using


def adapter(layers, rank=3, seed=0):
    torch.manual_seed(seed)
    made = LoRA(layers, rank=rank, alpha=2.0 * rank)
    for matrix in made.up:
        nn.init.normal_(matrix, std=0.3)
    return made


def by_hand(linear, lora, x):
    """The textbook form: the weights, changed."""
    (_, _, down, up), *_ = (each for each in lora.matrices() if each[1] is linear)
    return nn.functional.linear(x, linear.weight + lora.scale * up @ down, linear.bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (1, 7), (4, 7), (2, 3, 7)])
def test_an_adapter_adds_what_changed_weights_would(shape, bias):
    linear = nn.Linear(7, 5, bias=bias)
    lora = adapter({"a": linear})
    attach(linear, lambda: None)
    x = torch.randn(shape, requires_grad=True)
    plain = linear(x)
    with using(lora):
        got = linear(x)
    expected = by_hand(linear, lora, x)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(linear(x), plain, rtol=0, atol=0)
    (own,) = torch.autograd.grad(got.square().sum(), x)
    (theirs,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)


def test_a_new_adapter_changes_nothing():
    linear = nn.Linear(7, 5)
    attach(linear, lambda: None)
    x = torch.randn(4, 7)
    plain = linear(x)
    with using(LoRA({"a": linear}, rank=2, alpha=4.0)):
        torch.testing.assert_close(linear(x), plain, rtol=0, atol=0)


def test_each_stretch_of_rows_goes_through_its_own():
    linear, other = nn.Linear(7, 5), nn.Linear(7, 5)
    one, two, elsewhere = adapter({"a": linear}), adapter({"a": linear}, rank=1, seed=1), adapter({"b": other})
    attach(linear, lambda: one)
    x = torch.randn(9, 7)
    with using([(one, 2), (None, 3), (two, 1), (elsewhere, 3)]):
        got = linear(x)
    torch.testing.assert_close(got[:2], by_hand(linear, one, x[:2]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got[5:6], by_hand(linear, two, x[5:6]), rtol=1e-5, atol=1e-6)
    plain = nn.functional.linear(x, linear.weight, linear.bias)
    torch.testing.assert_close(got[[2, 3, 4, 6, 7, 8]], plain[[2, 3, 4, 6, 7, 8]], rtol=1e-5, atol=1e-6)


def test_the_default_counts_where_nobody_says_anything_else():
    linear = nn.Linear(7, 5)
    lora = adapter({"a": linear})
    attach(linear, lambda: lora)
    x = torch.randn(2, 7)
    torch.testing.assert_close(linear(x), by_hand(linear, lora, x), rtol=1e-5, atol=1e-6)
    with using(None):
        torch.testing.assert_close(linear(x), nn.functional.linear(x, linear.weight, linear.bias))


def test_changed_weights_equal_it():
    linear = nn.Linear(33, 17)
    lora = adapter({"a": linear})
    x = torch.randn(6, 33)
    expected = by_hand(linear, lora, x)
    with torch.no_grad():
        linear.weight += lora.change(linear)
    torch.testing.assert_close(linear(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_decoding_a_few_rows_heeds_adapters(rows):
    """The quick path reads weights from modules; those with an adapter it must call."""
    torch.manual_seed(0)
    backbone = build(BackboneConfig(width=32, layers=2, heads=4, kv_heads=2, sections=(2, 1, 1))).eval()
    layers = {name: module for name, module in backbone.named_modules() if type(module) is nn.Linear}
    lora = adapter(layers)
    for linear in layers.values():
        attach(linear, lambda: None)
    x, coordinates = torch.randn(rows, 32), torch.arange(rows).float()[:, None].expand(-1, 3)
    ends = torch.arange(1, rows + 1, dtype=torch.int32)
    intervals = torch.zeros(rows, 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = ends
    with torch.no_grad():
        with using(lora):
            got = backbone(x, coordinates, intervals, cache=backbone.new_pool(64), slots=torch.arange(rows))
            cut = rows // 2
            mixed = [(None, cut), (lora, rows - cut)]
        with using(mixed):
            halves = backbone(x, coordinates, intervals, cache=backbone.new_pool(64), slots=torch.arange(rows))
        plain = backbone(x, coordinates, intervals)
        for linear in layers.values():
            linear.weight += lora.change(linear)
        expected = backbone(x, coordinates, intervals)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(got, plain, atol=1e-2)
    torch.testing.assert_close(halves[:cut], plain[:cut], rtol=1e-4, atol=1e-4)


def test_the_quick_path_of_torch_does_not_pass_an_adapter_over():
    """In evaluation ``nn.TransformerEncoderLayer`` reads matrices without calling modules, unless they have hooks."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True).eval()
    lora = adapter({"a": layer.linear1, "b": layer.linear2})
    handles = [attach(linear, lambda: None) for linear in (layer.linear1, layer.linear2)]
    x = torch.randn(2, 5, 16)
    with torch.no_grad(), using(lora):
        got = layer(x)
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        for linear in (layer.linear1, layer.linear2):
            linear.weight += lora.change(linear)
        torch.testing.assert_close(got, layer(x), rtol=1e-4, atol=1e-5)
