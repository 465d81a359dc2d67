"""The benchmark of the store measures what it says, on an encoder that is small enough for a test."""

from __future__ import annotations

import pytest

from anyany.bench import store, suite, vit
from anyany.errors import AnyanyError


@pytest.fixture
def small(monkeypatch):
    for name, value in {"SIDE": 32, "WIDTH": 24, "DEPTH": 1, "HEADS": 2, "ROWS": 4}.items():
        monkeypatch.setattr(vit, name, value)
    monkeypatch.setattr(vit.ViT, "width", 24)


@pytest.mark.parametrize(("size", "goal"), [("mini", 5.0), ("10m", None)])
def test_a_figure_of_the_suite(small, size, goal):
    figure = suite.SUITE[f"store-align-in-{size}"](2)
    assert figure.id == f"store-align-in-{size}"
    assert figure.goal == goal
    assert figure.ratio > 0
    assert "2 pictures of 4 rows" in figure.what


def test_runs_that_learn_otherwise_are_not_compared(small, monkeypatch):
    plain, made = vit.model, []

    def model(size):
        made.append(plain(size))
        for parameter in made[-1].components["backbone"].parameters():
            parameter.data.mul_(len(made))
        return made[-1]

    monkeypatch.setattr(vit, "model", model)
    with pytest.raises(AnyanyError, match="learn otherwise"):
        store.align_in("mini", 1)


def test_the_encoder_has_the_shape_of_vit_b_16():
    import torch

    with torch.device("meta"):
        encoder = vit.ViT()
    shapes = {tuple(p.shape) for p in encoder.parameters()}
    assert {(768, 3, 16, 16), (196, 768), (3 * 768, 768), (3072, 768), (768, 3072)} <= shapes
    assert len(encoder.blocks.layers) == 12
    assert encoder.blocks.layers[0].self_attn.num_heads == 12
    assert 85e6 < sum(p.numel() for p in encoder.parameters()) < 86.6e6
