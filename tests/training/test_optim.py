"""Groups, rates, decay, clipping and schedules, each against its formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from anyany.errors import RecipeError
from anyany.training.optim import Schedule, adamw, clip, parameter_groups, set_rates


def components() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "backbone": nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
        "text": nn.Embedding(5, 4),
        "head/a/x": nn.Linear(4, 2),
        "head/b/y": nn.Linear(4, 2, bias=False),
        "codec/a/x": nn.Linear(4, 4),
    }


def rates_of(groups) -> dict[str, float]:
    return {g["name"]: g["lr"] for g in groups}


def test_each_component_has_matrices_and_the_rest():
    parts = components()
    groups = parameter_groups(parts, {"": 0.1}, weight_decay=0.3)
    assert {g["name"]: g["weight_decay"] for g in groups} == {
        "backbone:matrices": 0.3, "backbone:others": 0.0, "text:matrices": 0.3, "head/a/x:matrices": 0.3,
        "head/a/x:others": 0.0, "head/b/y:matrices": 0.3, "codec/a/x:matrices": 0.3, "codec/a/x:others": 0.0,
    }  # fmt: skip
    for group in groups:
        assert all((p.dim() >= 2) == (group["weight_decay"] > 0) for p in group["params"])
    trained = [p for g in groups for p in g["params"]]
    assert len(trained) == len({id(p) for p in trained}) == sum(len(list(m.parameters())) for m in parts.values())


def test_the_longest_name_decides_the_rate():
    rates = {"": 0.1, "head/": 0.2, "head/a/x": 0.3, "codec/": 0.0}
    parts = components()
    found = rates_of(parameter_groups(parts, rates))
    assert found == {
        "backbone:matrices": 0.1, "backbone:others": 0.1, "text:matrices": 0.1, "head/a/x:matrices": 0.3,
        "head/a/x:others": 0.3, "head/b/y:matrices": 0.2,
    }  # fmt: skip
    assert not any(p.requires_grad for p in parts["codec/a/x"].parameters())
    assert all(p.requires_grad for p in parts["head/b/y"].parameters())


def test_a_component_without_a_rate_is_frozen_and_can_be_thawed():
    parts = components()
    assert rates_of(parameter_groups(parts, {"text": 0.1})) == {"text:matrices": 0.1}
    assert [n for n, m in parts.items() if any(p.requires_grad for p in m.parameters())] == ["text"]
    parameter_groups(parts, {"backbone": 0.1})
    assert [n for n, m in parts.items() if any(p.requires_grad for p in m.parameters())] == ["backbone"]


def test_shared_parameters_are_trained_once_by_the_first_that_is_trained():
    parts = components()
    tied = nn.Linear(4, 5, bias=False)
    tied.weight = parts["text"].weight
    parts["head/tied"] = tied
    groups = parameter_groups(parts, {"": 0.1, "text": 0.5})
    owners = [g["name"] for g in groups if any(p is tied.weight for p in g["params"])]
    assert owners == ["text:matrices"]
    groups = parameter_groups(parts, {"": 0.1, "text": 0.0})
    owners = [g["name"] for g in groups if any(p is tied.weight for p in g["params"])]
    assert owners == ["head/tied:matrices"]
    assert tied.weight.requires_grad


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"": -1.0}, "number >= 0"), ({"": math.nan}, "number >= 0"), ({"": math.inf}, "number >= 0"),
        ({"backbon": 0.1}, "no such component; there are backbone"), ({"head": 0.1}, "no such component"),
        ({"": 0.0}, "frozen"), ({}, "frozen"),
    ],
)  # fmt: skip
def test_bad_rates(rates, message):
    with pytest.raises(RecipeError, match=message):
        parameter_groups(components(), rates)


def test_decay_reaches_matrices_only():
    parts = components()
    before = {k: v.clone() for m in parts.values() for k, v in m.state_dict(prefix=str(id(m))).items()}
    optimizer = adamw(parameter_groups(parts, {"": 0.1}, weight_decay=0.5))
    for module in parts.values():
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for module in parts.values():
        for name, value in module.state_dict(prefix=str(id(module))).items():
            expected = before[name] * (1 - 0.1 * 0.5) if value.dim() >= 2 else before[name]
            torch.testing.assert_close(value, expected)


def test_one_step_of_adamw_is_its_formula():
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    optimizer = adamw([{"params": [weight], "lr": 0.1, "peak": 0.1, "weight_decay": 0.2}], betas=(0.9, 0.95), eps=1e-8)
    weight.grad = torch.tensor([[0.5, -3.0]])
    set_rates(optimizer, 0.5)
    optimizer.step()
    rate = 0.05
    start = torch.tensor([[1.0, -2.0]]) * (1 - rate * 0.2)
    torch.testing.assert_close(weight.data, start - rate * torch.tensor([[1.0, -1.0]]), atol=1e-6, rtol=1e-6)


def test_each_group_keeps_its_share_of_the_schedule():
    optimizer = adamw(parameter_groups(components(), {"": 0.1, "text": 0.4}))
    for factor in (0.5, 1.0, 0.25):
        set_rates(optimizer, factor)
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(factor * (0.4 if "text" in group["name"] else 0.1))


def test_clipping_scales_the_common_norm_and_tells_it():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip([a, b], 1.0) == pytest.approx(5.0)
    torch.testing.assert_close(torch.cat([a.grad, b.grad]), torch.tensor([0.6, 0.0, 0.8]), atol=1e-5, rtol=1e-5)
    before = a.grad.clone()
    assert clip([a, b], 10.0) == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(a.grad, before)
    b.grad = torch.tensor([math.inf])
    assert not math.isfinite(clip([a, b], 1.0))


# Schedules.

STEPS, WARM = 50, 10


def curve(**options) -> list[float]:
    schedule = Schedule(steps=STEPS, warmup=WARM, **options)
    return [schedule(step) for step in range(STEPS)]


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "wsd"])
def test_the_warm_up_is_linear_and_never_zero(kind):
    assert curve(kind=kind)[:WARM] == pytest.approx([(i + 1) / WARM for i in range(WARM)])


@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_the_shapes_behind_it(floor):
    shares = [i / (STEPS - WARM) for i in range(STEPS - WARM)]
    assert curve(kind="constant")[WARM:] == [1.0] * (STEPS - WARM)
    linear = [floor + (1 - floor) * (1 - s) for s in shares]
    assert curve(kind="linear", floor=floor)[WARM:] == pytest.approx(linear)
    cosine = [floor + (1 - floor) * (1 + math.cos(math.pi * s)) / 2 for s in shares]
    assert curve(kind="cosine", floor=floor)[WARM:] == pytest.approx(cosine)
    falling = [floor + (1 - floor) * (1 - i / 20) for i in range(20)]
    assert curve(kind="wsd", floor=floor, decay=20)[WARM:] == pytest.approx([1.0] * 20 + falling)


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
def test_past_the_end_it_stays_at_the_floor(kind):
    schedule = Schedule(steps=20, warmup=2, kind=kind, floor=0.2, decay=5)
    assert schedule(19) > schedule(20) == schedule(10**6) == pytest.approx(0.2)
    factors = [schedule(i) for i in range(2, 25)]
    assert factors == sorted(factors, reverse=True)


@pytest.mark.parametrize("options", [{"steps": 1}, {"steps": 1, "warmup": 1}, {"steps": 2, "warmup": 2},
                                     {"steps": 3, "warmup": 1, "kind": "wsd", "decay": 2}])  # fmt: skip
def test_the_shortest_runs(options):
    schedule = Schedule(**options)
    assert all(0 < schedule(step) <= 1 for step in range(options["steps"]))  # no step is in vain
    assert schedule(options["steps"]) == 0


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_a_run_of_one_step_takes_it_in_full(kind):
    assert Schedule(steps=1, kind=kind)(0) == 1.0


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"steps": 5, "warmup": 6}, {"steps": 5, "warmup": -1}, {"steps": 5, "warmup": 3, "decay": 3},
     {"steps": 5, "floor": 1.5}, {"steps": 5, "floor": -0.1}, {"steps": 5, "kind": "stairs"}],
)  # fmt: skip
def test_bad_schedules(options):
    with pytest.raises(RecipeError, match="schedule"):
        Schedule(**options)
