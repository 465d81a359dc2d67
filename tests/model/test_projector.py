"""Projectors: rows by hand, items of different sizes, and the same model after saving and loading."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import anyany
from anyany.backbone import BackboneConfig
from anyany.errors import CheckpointError, LayoutError
from anyany.model.projector import KINDS, Projector, build_projector
from anyany.parts import Image, Message
from anyany.plugin.components import Coordinates, Prepared

ENTRIES = {
    "linear": "linear",
    "mlp": {"kind": "mlp", "norm": False, "bias": False},
    "mlp without marks": {"kind": "mlp", "marks": False},
    "resampler": {"kind": "resampler", "queries": 5, "heads": 2},
    "pixel-shuffle": {"kind": "pixel-shuffle", "factor": 2},
    "average": {"kind": "average", "factor": 2, "norm": "rms_plus_one"},
    "pixel-shuffle, linear": {"kind": "pixel-shuffle", "factor": 4, "layers": 1},
}
ROWS = dict(zip(ENTRIES, (16, 16, 16, 5, 4, 4, 1), strict=True))
each = pytest.mark.parametrize("name", ENTRIES)


def grid(height, width, moments=1, rows=None):
    """An item whose rows are a grid in reading order."""
    values = np.stack(np.meshgrid(*map(np.arange, (moments, height, width)), indexing="ij"), -1).reshape(-1, 3)
    return Prepared(arrays={}, rows=rows or len(values), coordinates=Coordinates(values=values.astype(np.float32)))


def of(name, features=6, width=8):
    torch.manual_seed(0)
    entry = ENTRIES[name]
    made = build_projector(features, width, **({"kind": entry} if isinstance(entry, str) else entry))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


def test_every_kind_is_tested():
    assert {entry if isinstance(entry, str) else entry["kind"] for entry in ENTRIES.values()} == set(KINDS)


@each
def test_a_batch_is_each_item_alone(name):
    made = of(name)
    items = [grid(4, 8), grid(8, 4, moments=2), grid(4, 4)]
    parts = [torch.randn(item.rows, 6) for item in items]
    together = made(torch.cat(parts), items)
    alone = [made(part, [item]) for part, item in zip(parts, items, strict=True)]
    assert [len(rows) for rows in alone] == [made.laid(item).rows for item in items]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)
    for row in (0, len(alone[0])):  # no row of one item reaches another
        assert not torch.allclose(together[row], together[len(alone[0]) + len(alone[1])])


@each
def test_gradients_reach_every_parameter(name):
    made = of(name).train()
    item = grid(4, 4)
    made(torch.randn(16, 6), [item]).square().sum().backward()
    for key, parameter in made.named_parameters():
        assert key in ("begin", "end") or parameter.grad.abs().sum() > 0, key


def test_linear_and_mlp_by_hand():
    x = torch.randn(7, 6)
    linear, mlp = of("linear"), of("mlp")
    normed = F.layer_norm(x, (6,), linear.norm.weight, linear.norm.bias)
    torch.testing.assert_close(linear(x), normed @ linear.outer.weight.T + linear.outer.bias)
    torch.testing.assert_close(mlp(x), F.gelu(x @ mlp.inner.weight.T) @ mlp.outer.weight.T)


def test_pixel_shuffle_by_hand():
    made, item = of("pixel-shuffle"), grid(2, 6, moments=2)
    rows = torch.arange(24.0)[:, None] + torch.arange(6) / 10
    found = []
    made.norm.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    made(rows, [item])
    at = lambda t, y, x: rows[t * 12 + y * 6 + x]
    wanted = [
        torch.cat([at(t, 0, 2 * x), at(t, 0, 2 * x + 1), at(t, 1, 2 * x), at(t, 1, 2 * x + 1)])
        for t in range(2)
        for x in range(3)
    ]
    assert torch.equal(found[0], torch.stack(wanted))
    laid = made.laid(item).coordinates.values
    assert laid.tolist() == [[t, 0, x] for t in range(2) for x in range(3)]


def test_an_average_by_hand():
    made = of("average")
    rows = torch.randn(16, 6)
    at = lambda y, x: rows[y * 4 + x]
    means = [(at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1)) / 4 for y in (0, 2) for x in (0, 2)]
    normed = [m / (m.square().mean() + 1e-5).sqrt() * (1 + made.norm.weight) for m in means]
    wanted = torch.stack(normed) @ made.outer.weight.T + made.outer.bias
    torch.testing.assert_close(made(rows, [grid(4, 4)]), wanted, rtol=1e-5, atol=1e-5)


def test_a_resampler_by_hand():
    made, item = of("resampler"), grid(1, 7)
    x = torch.randn(7, 6)
    found = made(x, [item])
    keys, values = made.key_value(made.key_norm(Projector.forward(made, x))).chunk(2, dim=-1)
    queries = made.query(made.query_norm(made.queries))
    heads = []
    for h in range(2):
        cut = slice(4 * h, 4 * h + 4)
        heads.append((queries[:, cut] @ keys[:, cut].T / 2).softmax(-1) @ values[:, cut])
    wanted = made.last(made.after(made.queries + made.out(torch.cat(heads, dim=-1))))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "item",
    [
        grid(3, 4),
        Prepared(arrays={}, rows=16),
        grid(4, 4, rows=15),
        Prepared(arrays={}, rows=4, coordinates=Coordinates(values=grid(2, 2).coordinates.values[::-1])),
    ],
    ids=["odd sides", "no coordinates", "a row too few", "another order"],
)
def test_what_is_no_grid(item):
    with pytest.raises(LayoutError, match="expected a grid in reading order whose sides are multiples of 2"):
        of("pixel-shuffle").laid(item)


@pytest.mark.parametrize(
    "entry",
    [
        "perceiver", {"kind": "mlp", "queries": 3}, {"kind": "linear", "layers": 2}, {"kind": "resampler", "heads": 3},
        {"kind": "mlp", "norm": "batch"},
        {"kind": "resampler", "queries": 0}, {"kind": "pixel-shuffle", "factor": 0},
        {"kind": "pixel-shuffle", "factor": -2},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_projector(entry):
    with pytest.raises(CheckpointError, match="projector: "):
        build_projector(6, 8, **({"kind": entry} if isinstance(entry, str) else entry))


@each
def test_composed_saved_and_loaded(name, tokenizer, tmp_path):
    torch.manual_seed(0)
    model = anyany.compose(
        backbone=BackboneConfig(width=32, layers=2, heads=4, sections=(2, 1, 1), scheme="grid"),
        tokenizer=tokenizer,
        encoders=[{"id": "image/patch", "config": {"width": 16, "depth": 1}, "projector": ENTRIES[name]}],
    )
    prompt = ["hello ", Image.from_array(np.random.default_rng(0).random((9, 20))), "world"]
    document = model.planner.plan([Message("user", tuple(prompt))])
    (span,) = [piece.span for piece in document.pieces if piece.span.view == "features"]
    assert (span.inner, span.marks) == (ROWS[name], 0 if name == "mlp without marks" else 2)
    model.save(tmp_path / "m")
    again = anyany.load(tmp_path / "m", device="cpu")
    assert torch.equal(again.logits(prompt), model.logits(prompt))
    assert again.generate(prompt, max_new_tokens=4).text == model.generate(prompt, max_new_tokens=4).text
    assert again.encoder_parts[0].projector_config["kind"] in KINDS


@pytest.mark.parametrize(("layers", "kind"), [(1, "linear"), (2, "mlp")])
def test_older_checkpoints_have_layers(layers, kind, tokenizer, tmp_path):
    encoder = {"id": "image/patch", "config": {"width": 16, "depth": 1}, "layers": layers}
    model = anyany.compose(
        backbone=BackboneConfig(width=32, layers=1, heads=4), tokenizer=tokenizer, encoders=[encoder]
    )
    model.save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["encoders"][0].pop("projector") == {"kind": kind}
    config["encoders"][0]["layers"] = layers
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    prompt = ["hello ", model.encoders["image/patch"].example(0)]
    assert torch.equal(anyany.load(tmp_path / "m", device="cpu").logits(prompt), model.logits(prompt))


def test_layers_are_short_for_kinds(tokenizer):
    for layers, kind in ((1, "linear"), (2, "mlp")):
        model = anyany.compose(
            backbone=BackboneConfig(width=32, layers=1, heads=4), tokenizer=tokenizer,
            encoders=[{"id": "image/patch", "layers": layers}],
        )  # fmt: skip
        assert model.encoder_parts[0].projector_config == {"kind": kind}
        assert (model.projectors["image/patch"].inner is None) == (layers == 1)
