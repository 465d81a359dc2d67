"""A step of several batches is the step of all of them in one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from imu_plugin import Imu, ImuCodec

from anyany.errors import SpanMismatchError
from anyany.model.assembly import counts, placed
from anyany.parts import Message
from anyany.training import data
from anyany.training.bind import Bind
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe
from anyany.training.tasks import Codecs


class Empty:
    def __len__(self) -> int:
        return 1


@pytest.fixture
def recipe(monkeypatch):
    import sys
    import types

    module = types.ModuleType("test_tasks_sources")
    module.Empty = Empty
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(**changes):
        base = {
            "name": "toy", "model": "unused", "sources": {"s": {"factory": "test_tasks_sources:Empty"}},
            "rates": {"": 1e-2, "codec/": 0.0}, "steps": 3, "weights": {"text": 2.0, "imu/signs": 0.7},
            "precision": "float32",
        }  # fmt: skip
        return make_recipe({**base, **changes})

    return make


def documents(model, *answers):
    said = [Message("user", ("what",))]
    return [model.planner.plan([*said, Message("assistant", (answer,))], train=True) for answer in answers]


def readings(rows: int, seed: int = 0) -> Imu:
    return Imu(np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32))


def stepped(run: Run, batches) -> tuple[dict, dict, dict]:
    """Values, gradients before the update, and weights behind one step over given batches."""
    waiting = iter(batches)
    run.batches.take = lambda: (next(waiting), {})
    gradients = {}
    plain = run.optimizer.step

    def step():
        gradients.update({n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None})
        plain()

    run.optimizer.step = step
    run.model.train()
    values = run.one_step()
    return values, gradients, dict(run.model.state_dict())


@pytest.mark.parametrize("kind", ["codes", "books", "regression", "embedding"])
@pytest.mark.parametrize("fixed", [True, False])
def test_two_batches_are_one_of_both(make_model, tmp_path, recipe, kind, fixed):
    """Of unlike sizes, one of them without a head's modality: means are over rows, not over batches."""
    results = []
    for name, accumulate in (("two", 2), ("one", 1)):
        model = make_model(kind=kind, rows=6, fixed=fixed)
        many = documents(model, "two three four one", readings(6), readings(6 if fixed else 1, 1), "one")
        few = documents(model, "three")
        batches = [many, few] if accumulate == 2 else [many + few]
        results.append(stepped(Run(recipe(accumulate=accumulate), tmp_path / name, model), batches))
    (two, two_gradients, two_weights), (one, one_gradients, one_weights) = results
    assert set(two) == {"loss", "text", "imu/signs", "rows", "fill", "skipped", "norm"}
    assert 2 * two.pop("fill") == pytest.approx(one.pop("fill"))  # of twice the room
    assert two == pytest.approx(one, rel=1e-4)
    assert two_gradients.keys() == one_gradients.keys()
    for name, gradient in one_gradients.items():
        torch.testing.assert_close(two_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert all(w.isfinite().all() for w in [*one_weights.values(), *two_weights.values()] if w.is_floating_point())


@pytest.mark.parametrize("kind", ["codes", "books", "regression", "embedding", "flow", "flow-span"])
@pytest.mark.parametrize("fixed", [True, False])
def test_what_is_counted_before_is_what_the_losses_are_over(make_model, kind, fixed):
    fixed = fixed or kind == "flow-span"
    model = make_model(kind=kind, rows=4, fixed=fixed)
    batch = documents(model, "two three", readings(4), readings(4 if fixed else 2), "one")
    found = {name: term.rows for name, term in model(batch).items()}
    assert counts(model, placed(batch)) == found
    assert set(found) == {"text", "imu/signs"}
    assert set(counts(model, placed(documents(model, "one")))) == {"text"}


def test_a_head_that_counts_otherwise_is_an_error(make_model, monkeypatch):
    model = make_model(kind="codes", rows=3)
    monkeypatch.setattr(model.heads["imu/signs"], "counted", lambda lengths, fixed: 99)
    with pytest.raises(SpanMismatchError, match=r"imu/signs: counted\(\).*99 rows"):
        model(documents(model, readings(3)))


def test_codecs_are_weighed_by_their_items(make_model, recipe, monkeypatch):
    """Two batches of 3 and 1 items: a term that is the mean over items stays that mean."""
    model = make_model()
    scale = torch.tensor(1.0, requires_grad=True)
    monkeypatch.setattr(
        ImuCodec, "loss",
        lambda self, batch: {"error": scale * torch.stack([torch.tensor(p.arrays["x"]).mean() for p in batch]).mean()},
    )  # fmt: skip
    task = Codecs(model, recipe(task="codec"))
    codec = model.codecs["imu/signs"]
    items = [codec.prepare(readings(3, seed)) for seed in range(4)]
    batches = [{"imu": items[:3]}, {"imu": items[3:]}]
    parts = [task.loss(batch, {"imu": 4}) for batch in batches]
    whole, values = task.loss({"imu": items}, task.count({"imu": items}))
    assert [task.count(batch) for batch in batches] == [{"imu": 3}, {"imu": 1}]
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole)
    for name, value in values.items():
        assert parts[0][1][name] + parts[1][1][name] == pytest.approx(value, rel=1e-5)


class Named:
    def __len__(self) -> int:
        return 5

    def sample(self, index: int, draw: np.random.Generator) -> tuple[Imu, str]:
        return readings(2, index), ("one", "two", "three", "four", "what")[index]


def test_bind_contrasts_within_a_batch_and_means_over_the_pairs_of_a_step(make_model, recipe):
    small, large = (Bind(make_model(), recipe(task="bind", rows=rows)) for rows in (2, 5))
    stream = data.Stream({"n": Named()}, {"n": 1.0}, 0, small.make)
    batches = [task.batch(task.batches(stream).take()) for task in (small, large)]
    alone = [large.loss(batch, large.count(batch)) for batch in batches]
    counted = {"imu-text": 7}
    parts = [large.loss(batch, counted) for batch in batches]
    expected = (2 * alone[0][0] + 5 * alone[1][0]) / 7
    torch.testing.assert_close(parts[0][0] + parts[1][0], expected)
    hits = (2 * alone[0][1]["imu-text/hits"] + 5 * alone[1][1]["imu-text/hits"]) / 7
    assert sum(p[1]["imu-text/hits"] for p in parts) == pytest.approx(hits)
