"""Binding: InfoNCE over pairs, and that it brings parts together which no pair ever held."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from imu_plugin import Imu

from anyany.errors import DataError
from anyany.model.vectors import cosines, vectors
from anyany.parts.messages import Message
from anyany.training import data
from anyany.training.bind import Bind, contrast, together
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe

WORDS = ("one", "two", "three", "four")
SIGNS = np.array([[1, 1, 1], [1, -1, 1], [-1, 1, -1], [-1, -1, -1]], np.float32)


def reading(index: int, draw: np.random.Generator, rows: int = 3) -> Imu:
    return Imu((SIGNS[index] * draw.uniform(0.5, 1.0, (rows, 3))).astype(np.float32))


class Named:
    """Readings and the word for them."""

    def __len__(self) -> int:
        return 4

    def sample(self, index: int, draw: np.random.Generator) -> tuple[Imu, str]:
        return reading(index, draw, int(draw.integers(1, 5))), WORDS[index]


@pytest.fixture
def recipe(monkeypatch):
    module = types.ModuleType("test_bind_pairs")
    module.Named = Named
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(**changes):
        base = {
            "name": "toy", "task": "bind", "model": "unused",
            "sources": {"named": {"factory": "test_bind_pairs:Named"}},
            "rates": {"encoder/": 1e-2, "projector/": 1e-2, "text": 1e-2}, "steps": 60, "rows": 16,
            "checkpoint_every": 20, "log_every": 20,
        }  # fmt: skip
        return make_recipe({**base, **changes})

    return make


def slow_contrast(logits: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """InfoNCE by its formula, one row after the other."""
    total = torch.zeros((), dtype=logits.dtype)
    for x, y in ((logits, same), (logits.T, same.T)):
        for row, hit in zip(x, y, strict=True):
            logs = row - row.exp().sum().log()
            total = total - logs[hit].mean()
    return total / (2 * len(logits))


def test_contrast_is_infonce_with_shared_positives():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    same = torch.eye(7, dtype=torch.bool)
    same[0, 3] = same[3, 0] = True
    value, slow = contrast(logits, same), slow_contrast(logits, same)
    assert torch.allclose(value, slow)
    ours, theirs = (torch.autograd.grad(v, logits)[0] for v in (value, slow))
    assert torch.allclose(ours, theirs)


def test_pairs_that_share_a_text_belong_together_and_media_do_not():
    draw = np.random.default_rng(0)
    one, other = reading(0, draw), reading(0, draw)
    same = together([(one, "a"), (other, "a"), (one, "b"), ("x", "b")])
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert same.int().tolist() == expected


def test_a_vector_is_the_mean_of_the_rows_of_its_part(make_model):
    model, draw = make_model(), np.random.default_rng(0)
    parts = [reading(0, draw, 4), "one two", reading(1, draw, 1)]
    documents = [model.planner.plan([Message("user", (part,))]) for part in parts]
    found = vectors(model, documents)
    encoder, projector = model.encoders["imu/linear"], model.projectors["imu/linear"]
    for vector, part in zip(found, parts, strict=True):
        if isinstance(part, str):
            rows = model.text.embed(torch.tensor(model.tokenizer.encode(part)))
        else:
            rows = projector(encoder([encoder.prepare(part)]))
        assert torch.allclose(vector, rows.mean(dim=0), atol=1e-6)


def test_gradients_reach_both_sides(make_model, recipe):
    run_recipe = recipe()
    model = make_model()
    task = Bind(model, run_recipe)
    batch = task.batch(task.batches(data.Stream({"n": Named()}, {"n": 1.0}, 0, task.make)).take())
    loss, terms = task.loss(batch, task.count(batch))
    loss.backward()
    assert set(terms) == {"loss", "imu-text/hits"}
    assert model.encoders["imu/linear"].linear.weight.grad.abs().sum() > 0
    assert model.text.embedding.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.backbone.parameters())


def test_binding_learns_and_leaves_the_rest_alone(make_model, tmp_path, recipe):
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    Run(recipe(), tmp_path, model).run()
    for name, tensor in model.state_dict().items():
        bound = name.split(".")[1].split("/")[0] in ("encoder", "projector", "text")
        assert bound or torch.equal(before[name], tensor), name
    draw = np.random.default_rng(99)
    plan = model.planner.plan
    with torch.no_grad():
        seen = vectors(model, [plan([Message("user", (reading(i, draw),))]) for i in range(4)])
        said = vectors(model, [plan([Message("user", (word,))]) for word in WORDS])
    assert cosines(seen, said).argmax(dim=1).tolist() == [0, 1, 2, 3]
    assert cosines(said, seen).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_resume_is_exact(make_model, tmp_path, recipe):
    whole = Run(recipe(steps=6), tmp_path / "whole", make_model())
    whole.run()
    part = Run(recipe(steps=4), tmp_path / "part", make_model())
    part.schedule = whole.schedule
    part.run()
    again = Run(recipe(steps=6), tmp_path / "part", make_model())
    assert again.resume()
    again.run()
    assert again.step == 6
    for (name, a), (_, b) in zip(whole.model.state_dict().items(), again.model.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


class Wrong:
    def __init__(self, sample) -> None:
        self.one = sample

    def __len__(self) -> int:
        return 2

    def sample(self, index: int, draw: np.random.Generator):
        return self.one


@pytest.mark.parametrize("sample", [None, "one", ("one",), ("one", "two", "three"), ("one", 3), [Message("user", ())]])
def test_samples_that_are_no_pairs(make_model, recipe, sample):
    task = Bind(make_model(), recipe())
    with pytest.raises(DataError, match="source 'w': the bind task takes pairs of parts"):
        data.Stream({"w": Wrong(sample)}, {"w": 1.0}, 0, task.make).take()


def test_an_empty_part_is_named(make_model, recipe):
    task = Bind(make_model(), recipe())
    with pytest.raises(DataError, match="source 'w': a part of a pair is empty"):
        data.Stream({"w": Wrong(("", "one"))}, {"w": 1.0}, 0, task.make).take()


def test_marks_are_no_part_of_a_vector(make_model):
    model, draw = make_model(), np.random.default_rng(0)
    documents = [model.planner.plan([Message("user", (reading(0, draw),))])]
    before = vectors(model, documents)
    with torch.no_grad():
        model.projectors["imu/linear"].begin.add_(1.0)
        model.projectors["imu/linear"].end.add_(1.0)
    assert torch.equal(before, vectors(model, documents))
