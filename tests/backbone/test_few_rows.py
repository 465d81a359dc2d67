"""Passes of a few rows take a path of their own: it gives what the blocks give, whatever the rows see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anyany.backbone import Backbone, BackboneConfig, KVPool, build, few_rows
from anyany.backbone.norms import RMSNorm

WIDTH, ROWS = 24, 40
EXACT = {torch.float64: {"rtol": 1e-9, "atol": 1e-10}, torch.float32: {"rtol": 1e-4, "atol": 1e-4}}

BACKBONES = {
    "plain": {},
    "grouped": {"kv_heads": 2},
    "one key head": {"kv_heads": 1, "head_dim": 10},
    "windows": {"window": (0, 3, 5), "kv_heads": 2},
    "query and key norms": {"qk_norm": True, "kv_heads": 2},
    "biases": {"qkv_bias": True, "out_bias": True, "ff_bias": True},
    "axes": {"sections": (1, 1, 1)},
    "gpt": {"positions": "learned", "norm": "layer", "ff": "gelu", "qkv_bias": True, "out_bias": True},
    "no positions": {"positions": "none"},
    "norms behind": {"norms": "post", "qk_norm": "whole", "kv_heads": 2},
    "norms on both sides": {
        "norms": "both",
        "norm": "rms_plus_one",
        "ff": "geglu",
        "score_cap": 2.0,
        "score_scale": 0.3,
        "qk_norm": True,
    },
    "two bases": {"theta": 500.0, "local_theta": 20.0, "window": (0, 4, 0), "rotary_scale": 1.2, "kv_heads": 2},
    "part of a head": {"rotary_dim": 4, "unturned_layers": (1,), "score_scale": (0.2, 0.5, 0.9)},
    "experts": {"experts": 5, "experts_chosen": 2, "experts_hidden": 20, "dense_layers": (1,), "hidden": 30},
}

# What three rows at 20, 21 and 33 see, of a cache whose first rows are filled: prefix and own range of each.
SEES = {
    "steps of three requests": [[[0, 0], [4, 21]], [[0, 0], [20, 22]], [[0, 0], [30, 34]]],
    "two ways": [[[0, 0], [7, 22]], [[0, 0], [7, 22]], [[0, 0], [30, 34]]],
    "prefixes": [[[0, 6], [12, 21]], [[0, 12], [21, 22]], [[5, 9], [33, 34]]],
    "a prefix alone": [[[0, 6], [12, 12]], [[0, 0], [21, 22]], [[5, 9], [33, 33]]],
    "nothing": [[[0, 0], [20, 21]], [[0, 0], [0, 0]], [[0, 0], [33, 34]]],
}
SLOTS = torch.tensor([20, 21, 33])


@pytest.fixture(autouse=True)
def pytorch(monkeypatch):
    """The native library would make these passes itself."""
    monkeypatch.setenv("ANYANY_NATIVE", "0")


def make(dtype: torch.dtype = torch.float64, **changes) -> Backbone:
    torch.manual_seed(0)
    backbone = build(BackboneConfig(width=WIDTH, layers=3, heads=4, **changes)).to(dtype).eval()
    for parameter in backbone.parameters():
        parameter.data.mul_(8) if parameter.dim() > 1 else parameter.data.add_(torch.rand_like(parameter))
    return backbone


def filled(backbone: Backbone) -> KVPool:
    pool = backbone.new_pool(ROWS, dtype=backbone.norm.weight.dtype)
    for pages in (pool.keys, pool.values):
        pages.copy_(torch.randn(pages.shape, generator=torch.Generator().manual_seed(1)))
    return pool


@torch.inference_mode()
def passed(backbone: Backbone, intervals: Tensor, slots: slice | Tensor) -> tuple[Tensor, KVPool]:
    pool, dtype = filled(backbone), backbone.norm.weight.dtype
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(len(intervals), WIDTH, generator=draw).to(dtype)
    at = torch.randint(0, 60, (len(intervals), 3), generator=draw).float()
    return backbone(x, at, intervals, cache=pool, slots=slots), pool


def agree(backbone: Backbone, monkeypatch, intervals: Tensor, slots: slice | Tensor) -> None:
    calls = []
    quick = few_rows.few_rows
    monkeypatch.setattr("anyany.backbone.decoder.few_rows", lambda *a: calls.append(a) or quick(*a))
    mine, pool = passed(backbone, intervals, slots)
    assert len(calls) == 1
    monkeypatch.setattr(few_rows, "FEW", 0)
    blocks, expected = passed(backbone, intervals, slots)
    assert len(calls) == 1
    for a, b in ((mine, blocks), (pool.keys, expected.keys), (pool.values, expected.values)):
        torch.testing.assert_close(a, b, **EXACT[a.dtype])


@pytest.mark.parametrize("sees", SEES)
@pytest.mark.parametrize("name", BACKBONES)
def test_what_rows_see(name, sees, monkeypatch):
    agree(make(**BACKBONES[name]), monkeypatch, torch.tensor(SEES[sees], dtype=torch.int32), SLOTS)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("name", BACKBONES)
def test_a_step_of_one_row(name, dtype, monkeypatch):
    intervals = torch.tensor([[[0, 0], [3, 30]]], dtype=torch.int32)
    agree(make(dtype, **BACKBONES[name]), monkeypatch, intervals, slice(29, 30))


def test_a_step_of_many_rows_of_one_request(monkeypatch):
    intervals = torch.zeros(few_rows.FEW, 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = torch.arange(11, 11 + few_rows.FEW)
    agree(make(kv_heads=2), monkeypatch, intervals, slice(10, 10 + few_rows.FEW))


def test_what_stands_in_the_place_of_a_projection_is_called(monkeypatch):
    """A module with an adapter in place of a plain projection, for example."""

    class Doubled(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    backbone = make()
    for block in backbone.blocks:
        for parent, name in ((block.mixer, "qkv"), (block.mixer, "out"), (block.ff, "gate_up"), (block.ff, "down")):
            plain = getattr(parent, name)
            changed = Doubled(plain.in_features, plain.out_features, bias=False).double()
            changed.weight = plain.weight
            setattr(parent, name, changed)
    agree(backbone, monkeypatch, torch.tensor([[[0, 0], [3, 30]]], dtype=torch.int32), slice(29, 30))


def test_weights_are_read_anew_in_each_pass():
    backbone, intervals = make(), torch.tensor([[[0, 0], [3, 30]]], dtype=torch.int32)
    before, _ = passed(backbone, intervals, slice(29, 30))
    backbone.blocks[0].ff.down.weight = torch.nn.Parameter(backbone.blocks[0].ff.down.weight.detach() * 3)
    after, _ = passed(backbone, intervals, slice(29, 30))
    assert not torch.allclose(before, after)


def test_learning_and_low_precision_go_through_the_blocks():
    x = torch.zeros(1, WIDTH)
    assert not few_rows.is_few(x)  # gradients are on
    with torch.inference_mode():
        assert few_rows.is_few(x)
        assert not few_rows.is_few(x.bfloat16())
        assert not few_rows.is_few(torch.zeros(few_rows.FEW + 1, WIDTH))
        with torch.autocast("cpu", torch.bfloat16):
            assert not few_rows.is_few(x)


@pytest.mark.parametrize("eps", [None, 1e-6, 0.5])
@pytest.mark.parametrize("affine", [True, False])
def test_the_quick_norm_is_the_norm(eps, affine):
    norm = RMSNorm(7, eps=eps, elementwise_affine=affine).double()
    if affine:
        norm.weight.data.normal_()
    x = torch.cat([torch.randn(3, 2, 7).double(), torch.zeros(1, 2, 7).double()])
    expected = norm(x)  # with gradients: torch's own
    with torch.no_grad():
        torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)
        assert norm(torch.full((1, 7), float("nan")).double()).isnan().all()


@pytest.mark.parametrize(("keys", "threads"), [(few_rows.LONG - 1, {1}), (few_rows.LONG, {2})])
def test_a_short_row_wakes_no_other_thread_and_a_failure_leaves_them_as_they_were(keys, threads, monkeypatch):
    backbone = make()
    pool = backbone.new_pool(keys, dtype=torch.float64)
    x, at = torch.zeros(1, WIDTH).double(), torch.zeros(1, 3)
    intervals, used, before = torch.tensor([[[0, 0], [0, keys]]]), set(), torch.get_num_threads()
    attend = few_rows._attend

    def watched(q: Tensor, seen: few_rows.Seen, layer: int, softcap: float | None) -> Tensor:
        used.add(torch.get_num_threads())
        if layer == 2:
            raise RuntimeError
        return attend(q, seen, layer, softcap)

    monkeypatch.setattr(few_rows, "_attend", watched)
    torch.set_num_threads(2)
    try:
        with torch.inference_mode(), pytest.raises(RuntimeError):
            backbone(x, at, intervals, cache=pool, slots=slice(keys - 1, keys))
        assert used == threads
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
