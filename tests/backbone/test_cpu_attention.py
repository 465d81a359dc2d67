"""The CPU path of interval attention against the dense reference, and what it must never do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from backbone import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from anyany.backbone import cpu_attention, interval_attention
from anyany.sequence import check_intervals, window

EXACT = {torch.float32: {"rtol": 1e-5, "atol": 2e-5}, torch.float64: {"rtol": 1e-10, "atol": 1e-12}}


def rows(ranges) -> Tensor:
    return torch.tensor(ranges, dtype=torch.int32).reshape(-1, 2, 2)


def packed(*lengths: int) -> Tensor:
    """Causal documents, one behind the other."""
    ranges, start = [], 0
    for length in lengths:
        ranges += [[[0, 0], [start, start + i + 1]] for i in range(length)]
        start += length
    return rows(ranges)


def two_way(n: int, first: int, end: int) -> Tensor:
    intervals = packed(n)
    intervals[first:end, 1, 1] = end
    return intervals


def branches(prefix: int, *lengths: int) -> Tensor:
    """A causal run, then branches that all see it as their prefix."""
    ranges, start = packed(prefix).tolist(), prefix
    for length in lengths:
        ranges += [[[0, prefix], [start, start + i + 1]] for i in range(length)]
        start += length
    return rows(ranges)


def noised(before: int, span: int) -> Tensor:
    """A clean run with a span at its end, then a noised copy that sees what stood before the span, and itself."""
    ranges = packed(before + span).tolist()
    end = before + 2 * span
    return rows(ranges + [[[0, before], [before + span, end]]] * span)


def some_blind(n: int) -> Tensor:
    intervals = packed(n)
    intervals[::3, 1, 1] = intervals[::3, 1, 0]
    return intervals


LAYOUTS = {
    "causal": packed(37),
    "documents": packed(5, 1, 30, 2, 17),
    "one row": packed(1),
    "many tiles": packed(300, 290),
    "long runs among short ones": packed(5, 270, 3, 1, 258),
    "a long run, then a span of it": two_way(310, 290, 305),
    "a long run behind a prefix": branches(20, 280),
    "the second half of a long run": packed(560)[270:],
    "two-way span": two_way(40, 11, 25),
    "prefix and own": branches(20, 7, 1, 9),
    "noised copy": noised(9, 14),
    "blind rows": some_blind(31),
    "all blind": torch.zeros(6, 2, 2, dtype=torch.int32),
    "no rows": torch.zeros(0, 2, 2, dtype=torch.int32),
    "window": window(packed(50, 20), 7),
    "window over a span": window(two_way(40, 11, 25), 6),
    "window over branches": window(branches(20, 7, 9), 11),
}


def drawn(intervals: Tensor, keys: int, heads: int, group: int, width: int, dtype: torch.dtype) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    shapes = ((len(intervals), heads * group, width), (keys, heads, width), (keys, heads, width))
    return [torch.randn(s, generator=draw, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


def check(intervals: Tensor, keys: int, heads: int, group: int, width: int, dtype: torch.dtype, **options) -> None:
    """Forward and all gradients."""
    check_intervals(intervals, keys)
    inputs = drawn(intervals, keys, heads, group, width, dtype)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    found = interval_attention(*inputs, intervals, **options)
    want = reference.interval_attention(*exact, intervals, **options)
    assert found.dtype == dtype
    torch.testing.assert_close(found, want.to(dtype), **EXACT[dtype])
    weight = torch.randn(want.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    slopes = torch.autograd.grad((found * weight.to(dtype)).sum(), inputs, allow_unused=True, materialize_grads=True)
    for slope, true in zip(slopes, torch.autograd.grad((want * weight).sum(), exact), strict=True):
        torch.testing.assert_close(slope, true.to(dtype), **EXACT[dtype])


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@pytest.mark.parametrize("intervals", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(intervals, dtype):
    check(intervals, max(1, int(intervals.max()) if len(intervals) else 1), 2, 2, 16, dtype)


@pytest.mark.parametrize("group", range(1, 9))
@pytest.mark.parametrize("heads", [1, 3])
def test_groups(group, heads):
    check(LAYOUTS["documents"], 55, heads, group, 8, torch.float32)


@pytest.mark.parametrize("width", [1, 3, 5, 12, 17, 33, 80])
def test_widths(width):
    check(LAYOUTS["prefix and own"], 37, 2, 3, width, torch.float32)


@pytest.mark.parametrize("scale", [0.0, 0.3, 2.0])
def test_scale(scale):
    check(LAYOUTS["two-way span"], 40, 2, 2, 8, torch.float64, scale=scale)


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@pytest.mark.parametrize("intervals", LAYOUTS.values(), ids=LAYOUTS)
def test_capped_scores(intervals, dtype):
    keys = max(1, int(intervals.max()) if len(intervals) else 1)
    check(intervals, keys, 2, 3, 9, dtype, softcap=0.8, scale=0.7)


def test_a_cap_bounds_what_a_key_weighs():
    q, k, v = (
        torch.full((1, 1, 2), 50.0),
        torch.tensor([[[1.0, 1.0]], [[-1.0, -1.0]]]),
        torch.tensor([[[1.0]], [[0.0]]]),
    )
    v = v.expand(2, 1, 2)
    share = interval_attention(q, k, v, rows([[[0, 0], [0, 2]]]), softcap=1.5)[0, 0, 0]
    torch.testing.assert_close(share, torch.sigmoid(torch.tensor(3.0)))  # scores 1.5 and -1.5


@pytest.mark.parametrize("name", LAYOUTS)
def test_large_tiles_are_not_kept_and_equal_small_ones(monkeypatch, name):
    """Masks that are made anew, and recomputed in the backward pass."""
    monkeypatch.setattr(cpu_attention, "KEPT", 0)
    monkeypatch.setattr(cpu_attention, "LARGEST", 600)
    check(LAYOUTS[name], max(1, int(LAYOUTS[name].max()) if len(LAYOUTS[name]) else 1), 2, 2, 8, torch.float64)


@st.composite
def layouts(draw) -> tuple[Tensor, int]:
    """Any valid intervals over a pool: sorted cuts give two ranges that share no key, in either order."""
    keys = draw(st.integers(1, 60))
    row = st.lists(st.integers(0, keys), min_size=4, max_size=4).map(sorted)
    cuts = draw(st.lists(st.tuples(row, st.booleans()), min_size=0, max_size=40))
    ranges = [[[c, d], [a, b]] if turned else [[a, b], [c, d]] for (a, b, c, d), turned in cuts]
    return rows(ranges), keys


@settings(max_examples=150, deadline=None)
@given(layouts(), st.integers(1, 2), st.integers(1, 8), st.sampled_from([1, 4, 7, 16]), st.sampled_from([*EXACT]))
def test_any_intervals(layout, heads, group, width, dtype):
    check(*layout, heads, group, width, dtype)


@settings(max_examples=60, deadline=None)
@given(layouts(), st.sampled_from([float("nan"), float("inf"), -float("inf")]), st.sampled_from([None, 2.0]), st.data())
def test_what_a_row_does_not_see_never_reaches_it(layout, poison, softcap, data):
    """Poison some keys: rows that see none of them are as before, also where others of their tile do."""
    intervals, keys = layout
    bad = torch.tensor(data.draw(st.lists(st.booleans(), min_size=keys, max_size=keys)))
    q, k, v = (x.detach() for x in drawn(intervals, keys, 2, 2, 8, torch.float64))
    clean = interval_attention(q, k, v, intervals, softcap=softcap)
    safe = ~(reference.visible(intervals, keys) & bad).any(dim=1)
    k[bad], v[bad] = poison, poison
    found = interval_attention(q, k, v, intervals, softcap=softcap)
    torch.testing.assert_close(found[safe], clean[safe], **EXACT[torch.float64])
    if poison != poison:
        assert found[~safe].isnan().all()  # nor is it hidden where it is seen


def test_poison_does_not_reach_gradients_of_others():
    intervals = packed(10, 12)
    q, k, v = drawn(intervals, 22, 1, 2, 8, torch.float64)
    with torch.no_grad():
        k[:10], v[:10] = float("nan"), float("inf")
    slopes = torch.autograd.grad(interval_attention(q, k, v, intervals)[10:].sum(), [q, k, v])
    assert all(slope[10:].isfinite().all() for slope in slopes)
    assert all(slope[10:].abs().sum() > 0 for slope in slopes)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_poison_late_in_a_long_run_does_not_reach_earlier_rows(poison):
    intervals = packed(300)
    q, k, v = (x.detach() for x in drawn(intervals, 300, 1, 2, 8, torch.float64))
    clean = interval_attention(q, k, v, intervals)
    k[280:], v[280:] = poison, poison
    found = interval_attention(q, k, v, intervals)
    torch.testing.assert_close(found[:280], clean[:280], **EXACT[torch.float64])
    assert found[280:].isnan().all()


def test_a_long_causal_run_is_one_tile_without_a_mask():
    plan = cpu_attention.Tiles.of(packed(3, 1000, 2))
    assert [(t.start, t.stop, t.causal, t.kept is None) for t in plan.tiles] == [
        (0, 3, False, False), (3, 1003, True, True), (1003, 1005, False, False),
    ]  # fmt: skip


def test_unseen_keys_have_no_gradient():
    intervals = rows([[[0, 2], [4, 6]], [[0, 0], [5, 7]]])
    q, k, v = drawn(intervals, 9, 1, 1, 4, torch.float64)
    slopes = torch.autograd.grad(interval_attention(q, k, v, intervals).square().sum(), [k, v])
    for slope in slopes:
        reached = slope.abs().sum(dim=(1, 2)) > 0
        assert reached.tolist() == [True, True, False, False, True, True, True, False, False]


MEASURE = """
import resource, sys, torch
from anyany.backbone import interval_attention

def peak():  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

def once(rows, keys, learn, softcap):
    q, k, v = (torch.randn(n, 1, 8, requires_grad=learn) for n in (rows, keys, keys))
    intervals = torch.zeros(rows, 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = torch.arange(keys - rows, keys) + 1
    out = interval_attention(q, k, v, intervals, softcap=softcap or None)
    if learn:
        out.sum().backward()

rows, keys, learn, softcap = (int(x) for x in sys.argv[1:])
once(2048, 2048, bool(learn), softcap)  # what the library itself takes, large tiles included
before = peak()
once(rows, keys, bool(learn), softcap)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("softcap", [0, 5])
@pytest.mark.parametrize(("rows", "learn"), [(32768, False), (4096, True)])
def test_memory_grows_with_rows_and_keys_not_with_their_product(rows, learn, softcap):
    """A bool mask alone would take a byte for each of rows * keys; scores, or a mask that autograd keeps, four."""
    keys = 32768
    command = [sys.executable, "-c", MEASURE, str(rows), str(keys), str(int(learn)), str(softcap)]
    # Large blocks go back to the system when they are freed, so that the peak shows what lives at once.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "4000000", "OMP_NUM_THREADS": "1"}
    made = int(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
    assert made < rows * keys / 4


def test_the_plan_is_small():
    n = 8192
    plan = cpu_attention.Tiles.of(packed(n))
    kept = sum(tile.kept.nbytes for tile in plan.tiles if tile.kept is not None)
    assert kept <= cpu_attention.KEPT / cpu_attention.TILE * n
    assert sum(tile.stop - tile.start for tile in plan.tiles) == n
