"""Passes of a few rows by the native library: they give what the blocks give, and what it does not know it leaves."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from anyany.backbone import Backbone, BackboneConfig, KVPool, build, native
from anyany.backbone.lora import LoRA, attach, using
from anyany.backbone.memory_order import order_by_rows, order_for_decoding
from anyany.errors import LayoutError, NativeError
from anyany.native import choice, library
from anyany.native.weights import FLOATS, FORMS, MOST_ROWS

pytestmark = pytest.mark.skipif(library() is None, reason=f"no native library: {choice.why_not()}")

ROWS = 90
BACKBONES = {
    "plain": {},
    "grouped": {"kv_heads": 2},
    "one key head": {"kv_heads": 1, "head_dim": 10},
    "wide heads": {"heads": 2, "head_dim": 68},
    "odd heads": {"head_dim": 7, "positions": "none"},
    "windows": {"window": (0, 3, 5), "kv_heads": 2},
    "query and key norms": {"qk_norm": True, "kv_heads": 2},
    "layer norms of queries and keys": {"qk_norm": True, "norm": "layer"},
    "biases": {"qkv_bias": True, "out_bias": True, "ff_bias": True},
    "axes": {"sections": (1, 1, 1)},
    "gpt": {"positions": "learned", "norm": "layer", "ff": "gelu", "qkv_bias": True, "out_bias": True, "ff_bias": True},
    "odd hidden width": {"hidden": 37},
    "odd width": {"width": 27, "head_dim": 8},
    "one head": {"heads": 1, "kv_heads": 1},
}
SEES = {
    "steps of three requests": [[[0, 0], [4, 21]], [[0, 0], [20, 22]], [[0, 0], [30, 84]]],
    "two ways": [[[0, 0], [7, 22]], [[0, 0], [7, 22]], [[0, 0], [3, 84]]],
    "prefixes": [[[0, 6], [12, 21]], [[0, 12], [21, 22]], [[5, 79], [83, 84]]],
    "a prefix alone": [[[0, 6], [12, 12]], [[0, 0], [21, 22]], [[5, 79], [83, 83]]],
    "nothing": [[[0, 0], [20, 21]], [[0, 0], [0, 0]], [[0, 0], [83, 84]]],
}
SLOTS = torch.tensor([20, 21, 83])


def make(dtype: torch.dtype = torch.float32, width: int = 24, heads: int = 4, **changes) -> Backbone:
    torch.manual_seed(0)
    backbone = build(BackboneConfig(width=width, layers=3, heads=heads, **changes)).to(dtype).eval()
    for parameter in backbone.parameters():
        parameter.data.mul_(8) if parameter.dim() > 1 else parameter.data.add_(torch.rand_like(parameter))
    return backbone


def filled(backbone: Backbone, rows: int = ROWS) -> KVPool:
    pool = backbone.new_pool(rows, dtype=backbone.norm.weight.dtype)
    for pages in (pool.keys, pool.values):
        pages.copy_(torch.randn(pages.shape, generator=torch.Generator().manual_seed(1)))
    return pool


@torch.inference_mode()
def passed(backbone: Backbone, intervals: Tensor, slots: slice | Tensor, rows: int = ROWS) -> tuple[Tensor, KVPool]:
    pool, dtype = filled(backbone, rows), backbone.norm.weight.dtype
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(len(intervals), backbone.width, generator=draw).to(dtype)
    at = torch.randint(0, 60, (len(intervals), 3), generator=draw).float()
    return backbone(x, at, intervals, cache=pool, slots=slots), pool


@pytest.fixture
def calls(monkeypatch) -> list:
    """Passes that the library made."""
    made, call = [], native.Ready.__call__
    monkeypatch.setattr(native.Ready, "__call__", lambda self, *a: made.append(len(a[0])) or call(self, *a))
    return made


def reference(backbone: Backbone, monkeypatch, *arguments) -> tuple[Tensor, KVPool]:
    """The same by PyTorch, in float64 where that is more than the backbone has."""
    with monkeypatch.context() as patch:
        patch.setenv(choice.VARIABLE, "0")
        return passed(backbone, *arguments)


def agree(backbone: Backbone, calls: list, monkeypatch, intervals: Tensor, slots: slice | Tensor, tolerance=1e-4):
    mine, pool = passed(backbone, intervals, slots)
    assert calls == [len(intervals)]
    expected, theirs = reference(backbone, monkeypatch, intervals, slots)
    assert calls == [len(intervals)]
    for a, b in ((mine, expected), (pool.keys, theirs.keys), (pool.values, theirs.values)):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("sees", SEES)
@pytest.mark.parametrize("name", BACKBONES)
def test_what_rows_see(name, sees, calls, monkeypatch):
    agree(make(**BACKBONES[name]), calls, monkeypatch, torch.tensor(SEES[sees], dtype=torch.int32), SLOTS)


@pytest.mark.parametrize("n", [*range(1, 17), 25, 39, MOST_ROWS])
@pytest.mark.parametrize("name", ["grouped", "windows", "odd width"])
def test_any_number_of_rows_of_one_request(name, n, calls, monkeypatch):
    intervals = torch.zeros(n, 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = torch.arange(26, 26 + n)
    agree(make(**BACKBONES[name]), calls, monkeypatch, intervals, slice(25, 25 + n))


def test_threads_and_long_contexts(calls, monkeypatch):
    """Enough keys and weights that work is shared out."""
    backbone = make(width=256, heads=8, kv_heads=4, hidden=1000)
    intervals = torch.tensor([[[0, 700], [900, 2001]], [[0, 0], [0, 2002]]], dtype=torch.int32)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr("anyany.native.weights.SHORT", 0)
    try:
        mine, _ = passed(backbone, intervals, torch.tensor([2000, 2001]), 2100)
        expected, _ = reference(backbone, monkeypatch, intervals, torch.tensor([2000, 2001]), 2100)
    finally:
        torch.set_num_threads(before)
    assert calls == [2]
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_rows_do_not_depend_on_their_neighbours():
    backbone = make(kv_heads=2)
    intervals = torch.tensor([[[0, 6], [12, 21]], [[0, 12], [21, 22]], [[5, 19], [30, 84]]], dtype=torch.int32)
    together, _ = passed(backbone, intervals, SLOTS)
    x = torch.randn(3, backbone.width, generator=(draw := torch.Generator().manual_seed(2)))
    at = torch.randint(0, 60, (3, 3), generator=draw).float()
    for i in range(3):
        with torch.inference_mode():
            pool = filled(backbone)
            alone = backbone(x[i : i + 1], at[i : i + 1], intervals[i : i + 1], cache=pool, slots=SLOTS[i : i + 1])
        assert torch.equal(alone[0], together[i])


@pytest.mark.parametrize("name", BACKBONES)
def test_bfloat16_with_sums_in_float32(name, calls, monkeypatch):
    """Against the same weights in float32, which bfloat16 rows and cache follow to a part in a hundred."""
    backbone, intervals = make(torch.bfloat16, **BACKBONES[name]), torch.tensor([[[0, 9], [13, 70]]], dtype=torch.int32)
    mine, pool = passed(backbone, intervals, slice(69, 70))
    assert calls == [1]
    assert mine.dtype == pool.keys.dtype == torch.bfloat16
    with torch.inference_mode():
        draw = torch.Generator().manual_seed(2)
        x = torch.randn(1, backbone.width, generator=draw).to(torch.bfloat16).float()
        at = torch.randint(0, 60, (1, 3), generator=draw).float()
        exact, known = backbone.float(), KVPool(3, *pool.keys.shape[2:], ROWS)
        before = filled(exact)
        known.keys.copy_(before.keys.bfloat16()), known.values.copy_(before.values.bfloat16())
        monkeypatch.setenv(choice.VARIABLE, "0")
        expected = exact(x, at, intervals, cache=known, slots=slice(69, 70))
    assert float((mine.float() - expected).norm() / expected.norm()) < 1e-2


def test_weights_that_change_are_seen(calls):
    backbone, intervals = make(), torch.tensor([[[0, 0], [3, 30]]], dtype=torch.int32)
    outputs = [passed(backbone, intervals, slice(29, 30))[0]]
    changes = [
        lambda down: down.weight.data.mul_(3),
        lambda down: setattr(down, "weight", torch.nn.Parameter(down.weight.detach() * 3)),
        lambda down: down.load_state_dict({"weight": down.weight.detach() * 3}),
        lambda down: setattr(down.weight, "data", down.weight.data * 3),
    ]
    for change in changes:
        change(backbone.blocks[0].ff.down)
        outputs.append(passed(backbone, intervals, slice(29, 30))[0])
        assert not torch.allclose(outputs[-1], outputs[-2])
    assert len(calls) == len(outputs)
    backbone.double()
    assert passed(backbone, intervals, slice(29, 30))[0].dtype == torch.float64
    backbone.float()
    torch.testing.assert_close(passed(backbone, intervals, slice(29, 30))[0], outputs[-1], rtol=1e-4, atol=1e-4)
    assert len(calls) == len(outputs) + 1


def hooked(backbone):
    backbone.blocks[1].mixer.out.register_forward_hook(lambda module, args, out: out * 2)


def doubled(backbone):
    class Doubled(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    plain = backbone.blocks[2].ff.gate_up
    backbone.blocks[2].ff.gate_up = Doubled(plain.in_features, plain.out_features, bias=False)


def capped(backbone):
    backbone.blocks[1].mixer.cap = 30.0


def normed(backbone):
    backbone.blocks[1].late_norm = torch.nn.LayerNorm(backbone.width)


def by_columns(backbone):
    order_for_decoding(block.mixer.qkv.weight for block in backbone.blocks)


CHANGES = [hooked, doubled, by_columns, torch.nn.Module.double]


@pytest.mark.parametrize(("change", "first"), [*product(CHANGES, [True, False]), (capped, True), (normed, True)])
def test_what_it_does_not_know_it_leaves(change, first, calls, monkeypatch):
    backbone, intervals = make(), torch.tensor([[[0, 0], [3, 30]]], dtype=torch.int32)
    if not first:  # a pass was made before
        passed(backbone, intervals, slice(29, 30))
        calls.clear()
    change(backbone)
    mine, _ = passed(backbone, intervals, slice(29, 30))
    assert not calls
    assert torch.equal(mine, reference(backbone, monkeypatch, intervals, slice(29, 30))[0])
    assert native.suits(backbone) == (change is by_columns)
    monkeypatch.setenv(choice.VARIABLE, "1")
    with pytest.raises(NativeError, match="ANYANY_NATIVE=1"):
        passed(backbone, intervals, slice(29, 30))


def test_learning_many_rows_and_autocast_take_other_ways(calls):
    backbone, pool = make(), filled(make())
    x, at, intervals = torch.zeros(1, 24), torch.zeros(1, 3), torch.tensor([[[0, 0], [0, 1]]], dtype=torch.int32)
    backbone(x, at, intervals, cache=pool, slots=slice(0, 1))  # gradients are on
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        backbone(x, at, intervals, cache=pool, slots=slice(0, 1))
    n = MOST_ROWS + 1
    passed(backbone, intervals.expand(n, -1, -1), slice(0, n))
    with torch.inference_mode():
        backbone(x, at, intervals)
    assert not calls


def test_a_copy_has_structures_of_its_own():
    import copy

    backbone, intervals = make(), torch.tensor([[[0, 0], [3, 30]]], dtype=torch.int32)
    before, _ = passed(backbone, intervals, slice(29, 30))
    other = copy.deepcopy(backbone)
    backbone.blocks[0].ff.down.weight.data.zero_()
    assert torch.equal(passed(other, intervals, slice(29, 30))[0], before)
    assert not torch.equal(passed(backbone, intervals, slice(29, 30))[0], before)


@pytest.mark.parametrize(
    ("slots", "interval"),
    [(slice(ROWS, ROWS + 1), [0, 5]), (slice(3, 4), [0, ROWS + 1]), (slice(3, 4), [-1, 5]), (slice(3, 5), [0, 5])],
)
def test_what_lies_outside_the_cache_is_an_error(slots, interval):
    with pytest.raises(LayoutError, match="backbone"):
        passed(make(), torch.tensor([[[0, 0], interval]], dtype=torch.int32), slots)


@pytest.mark.parametrize(("form", "apart"), [("int8", 0.03), ("int4", 0.4)])
def test_small_integers_stay_near_and_follow_the_weights(form, apart, calls, monkeypatch):
    backbone = make(width=64, hidden=96, kv_heads=2)
    intervals = torch.tensor([[[0, 0], [3, 30]]], dtype=torch.int32)
    exact, _ = passed(backbone, intervals, slice(29, 30))
    backbone.weights = form
    for _ in range(2):
        near, _ = passed(backbone, intervals, slice(29, 30))
        assert 0 < float((near - exact).norm() / exact.norm()) < apart
        with torch.no_grad():
            backbone.blocks[0].ff.down.weight.mul_(-1)
        backbone.weights = None
        exact, _ = passed(backbone, intervals, slice(29, 30))
        backbone.weights = form
    assert len(calls) == 5
    hooked(backbone)
    with pytest.raises(NativeError, match=f"{form}.*hooks"):
        passed(backbone, intervals, slice(29, 30))
    monkeypatch.setenv(choice.VARIABLE, "0")
    with pytest.raises(NativeError, match=f"{form}.*ANYANY_NATIVE=0"):
        passed(backbone, intervals, slice(29, 30))


def test_order_by_rows_brings_a_backbone_back(calls):
    backbone, intervals = make(), torch.tensor([[[0, 0], [3, 30]]], dtype=torch.int32)
    by_columns(backbone)
    order_by_rows(p for p in backbone.parameters() if p.dim() > 1)
    passed(backbone, intervals, slice(29, 30))
    assert calls == [1]


def test_numbers_are_those_of_the_library():
    from anyany_kernels.native import binding as numbers

    assert {torch.float32: numbers.FLOAT32, torch.bfloat16: numbers.BFLOAT16} == FLOATS
    assert {"int8": numbers.INT8, "int4": numbers.INT4} == FORMS
    assert numbers.MOST_ROWS == MOST_ROWS


def test_an_adapter_that_is_not_in_use_changes_nothing(calls):
    backbone, intervals = make(), torch.tensor([[[0, 0], [3, 30]]], dtype=torch.int32)
    before, _ = passed(backbone, intervals, slice(29, 30))
    down = backbone.blocks[1].ff.down
    adapter = LoRA({"down": down}, rank=2, alpha=4.0)
    torch.nn.init.normal_(adapter.up[0])
    attach(down, lambda: None)
    assert torch.equal(passed(backbone, intervals, slice(29, 30))[0], before)
    with using([(None, 1)]):
        assert torch.equal(passed(backbone, intervals, slice(29, 30))[0], before)
    assert len(calls) == 3
    for segments in (adapter, [(adapter, 1)]):
        with using(segments):
            assert not torch.allclose(passed(backbone, intervals, slice(29, 30))[0], before)
    assert len(calls) == 3


OTHER = {
    "ff is a GeGLU": {"ff": "geglu"},
    "softcap": {"score_cap": 3.0},
    "scale": {"score_scale": 0.3},
    "ff_after, mixer_after": {"norms": "post"},
    "mixer_norm is a PlusOneRMSNorm": {"norm": "rms_plus_one"},
    "query_norm is a WholeRMSNorm": {"qk_norm": "whole"},
    "turned": {"rotary_dim": 4},
    "local_rotary": {"local_theta": 100.0, "window": (0, 5)},
    "rotary": {"unturned_layers": (1,)},
    "ff is a Experts": {"experts": 2, "experts_chosen": 1, "experts_hidden": 16},
}
"""What other families have, and how the library says that it does not know it."""


@pytest.mark.parametrize(("said", "numbers"), OTHER.items(), ids=OTHER)
def test_what_other_families_have_is_left_to_pytorch(monkeypatch, said, numbers):
    backbone = build(BackboneConfig(width=32, layers=2, heads=4, kv_heads=2, **numbers)).eval()
    heights = torch.arange(3)
    intervals = torch.zeros(3, 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = heights + 1
    given = torch.randn(3, 32), heights.float()[:, None].expand(-1, 3).contiguous(), intervals
    with torch.inference_mode():
        cached = backbone(*given, cache=backbone.new_pool(5), slots=slice(0, 3))
        torch.testing.assert_close(cached, backbone(*given), rtol=1e-4, atol=1e-5)
        monkeypatch.setenv("ANYANY_NATIVE", "1")
        with pytest.raises(NativeError, match=said):
            backbone(*given, cache=backbone.new_pool(5), slots=slice(0, 3))
