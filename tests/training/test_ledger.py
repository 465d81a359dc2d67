"""The ledger: what a run trains and what it has changed."""

from __future__ import annotations

import json
import math

import torch
from torch import nn

from anyany.training import ledger, optim


def parts() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"backbone": nn.Linear(3, 2), "head/x": nn.Linear(2, 2), "codec/x": nn.BatchNorm1d(2)})


def test_one_bit_of_a_weight_or_a_buffer_shows():
    components = parts()
    begun = ledger.digests(components)
    assert not any(entry.changed for entry in ledger.entries(components, begun))
    weight = components["backbone"].weight.data
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(math.inf))
    components["codec/x"].running_mean[1] = 1e-30
    assert {e.name: e.changed for e in ledger.entries(components, begun)} == {
        "backbone": True, "head/x": False, "codec/x": True
    }  # fmt: skip


def test_numbers_of_each_component():
    components = parts()
    groups = optim.parameter_groups(components, {"backbone": 1e-3, "head/": 1e-3})
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    components["backbone"](x).square().sum().backward()
    found = {e.name: e for e in ledger.entries(components, ledger.digests(components), optim.norms(groups))}
    assert [(e.parameters, e.trainable) for e in found.values()] == [(8, 8), (6, 6), (4, 0)]
    own = components["backbone"]
    expected = math.sqrt(float(own.weight.grad.square().sum() + own.bias.grad.square().sum()))
    assert math.isclose(found["backbone"].norm, expected, rel_tol=1e-6)
    assert found["head/x"].norm is None  # trained, but nothing reached it
    cells = ledger.rows(list(found.values()))
    assert all(len(row) == len(ledger.COLUMNS) for row in cells)
    assert cells[2][-1] == "bit-identical"


def test_a_ledger_is_json():
    components = parts()
    entries = ledger.entries(components, ledger.digests(components))
    assert json.loads(json.dumps([e.to_json() for e in entries]))[0]["name"] == "backbone"
