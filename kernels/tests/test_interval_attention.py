"""Interval attention against a dense softmax in float64: forward, gradients, split keys, and what it must refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anyany_kernels import attention_backward, attention_decode, attention_table
from anyany_kernels import interval_attention as module
from anyany_kernels.attention_forward import forward
from anyany_kernels.errors import KernelTypeError, KernelValueError
from anyany_kernels.interval_attention import interval_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
NAMES = ("out", "dq", "dk", "dv")


def visible(intervals: Tensor, keys: int) -> Tensor:
    """``(T, S)`` bool: row t sees key s."""
    at = torch.arange(keys, device=intervals.device)
    return ((at >= intervals[:, :, :1]) & (at < intervals[:, :, 1:])).any(dim=1)


def reference(q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, *, scale=None, cap=None) -> Tensor:
    """The signature of the kernel, as one dense softmax."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    mask = visible(intervals, len(k))
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = torch.einsum("thd,shd->ths", q, k) * scale
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~mask[:, None], -math.inf)
    weights = scores.softmax(dim=-1).where(mask.any(dim=1)[:, None, None], 0)
    return torch.einsum("ths,shd->thd", weights, v)


# Layouts.


def rows(ranges) -> Tensor:
    return torch.tensor(ranges, dtype=torch.int32).reshape(-1, 2, 2)


def packed(*lengths: int) -> Tensor:
    """Causal documents, one behind the other."""
    out, start = [], 0
    for length in lengths:
        out += [[[0, 0], [start, start + i + 1]] for i in range(length)]
        start += length
    return rows(out)


def two_way(n: int, *spans: tuple[int, int]) -> Tensor:
    out = packed(n)
    for first, end in spans:
        out[first:end, 1, 1] = end
    return out


def branches(prefix: int, *lengths: int, gap: int = 0) -> Tensor:
    """A causal run, then branches that all see it as their prefix, ``gap`` documents' rows behind it."""
    out = packed(prefix, gap).tolist() if gap else packed(prefix).tolist()
    start = prefix + gap
    for length in lengths:
        out += [[[0, prefix], [start, start + i + 1]] for i in range(length)]
        start += length
    return rows(out)


def noised(before: int, span: int) -> Tensor:
    """A clean run with a span at its end, then a noised copy that sees what stood before the span, and itself."""
    clean = packed(before + span).tolist()
    return rows(clean + [[[0, before], [before + span, before + 2 * span]]] * span)


def windowed(intervals: Tensor, w: int) -> Tensor:
    out = intervals.clone()
    out[:, 1, 0] = torch.maximum(out[:, 1, 0], torch.arange(len(out), dtype=torch.int32) + 1 - w)
    return out


def blind(intervals: Tensor, every: int) -> Tensor:
    out = intervals.clone()
    out[::every] = len(out)  # empty, and behind the last key
    return out


def shuffled(intervals: Tensor) -> Tensor:
    return intervals[torch.randperm(len(intervals), generator=torch.Generator().manual_seed(3))]


LAYOUTS = {
    "one row": packed(1),
    "causal, one more than two tiles": packed(65),
    "causal, one less": packed(63),
    "documents on tile edges": packed(32, 32, 31, 33, 1),
    "spans on tile edges": two_way(98, (32, 64), (65, 66), (90, 97)),
    "a span is the whole document": two_way(70, (0, 70)),
    "branches behind their prefix": branches(40, 7, 1, 33),
    "branches far from their prefix": branches(33, 9, 20, gap=34),
    "noised copy": noised(20, 34),
    "window": windowed(packed(70, 10), 33),
    "blind rows": blind(packed(67), 3),
    "all blind": torch.full((5, 2, 2), 5, dtype=torch.int32),
    "no order": shuffled(branches(40, 20, 9)),
}


def drawn(intervals: Tensor, keys: int, kv_heads: int, group: int, width: int, dtype: torch.dtype) -> list[Tensor]:
    draw = torch.Generator().manual_seed(len(intervals) + width)
    shapes = (len(intervals), kv_heads * group, width), (keys, kv_heads, width), (keys, kv_heads, width)
    return [torch.randn(s, generator=draw).to(DEVICE, dtype).requires_grad_() for s in shapes]


def results(function, inputs: list[Tensor], slope: Tensor, intervals: Tensor, **options) -> list[Tensor]:
    """Output and gradients, in float64."""
    out = function(*inputs, intervals, **options)
    return [x.detach().double() for x in (out, *torch.autograd.grad(out, inputs, slope.to(out.dtype)))]


def error(found: Tensor, want: Tensor) -> float:
    return float((found - want).norm() / want.norm().clamp(min=1.0))  # one key leaves no slope


def a_few(intervals: Tensor) -> slice:
    """The first row and some behind it: the interpreter takes long for each."""
    return slice(None, None, max(1, len(intervals) // 5))


def check(intervals: Tensor, kv_heads=1, group=2, width=64, dtype=torch.float32, keys=None, **options) -> None:
    """Forward, all gradients and split keys against float64; and no worse than twice the same sums in ``dtype``."""
    intervals = intervals.to(DEVICE)
    keys = keys or max(1, int(intervals.max()) if len(intervals) else 1)
    inputs = drawn(intervals, keys, kv_heads, group, width, dtype)
    slope = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(7)).to(DEVICE, dtype)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    want = results(reference, exact, slope, intervals, **options)
    same = results(reference, inputs, slope, intervals, **options)
    for name, f, w, s in zip(NAMES, results(interval_attention, inputs, slope, intervals, **options), want, same,
                             strict=True):  # fmt: skip
        assert error(f, w) <= LIMITS[dtype], name
        rounding = torch.finfo(dtype).eps * w.abs().max().clamp(min=1.0)
        assert (f - w).abs().max() <= 2 * (s - w).abs().max() + 4 * rounding, name
    some = a_few(intervals)
    with torch.no_grad():
        split = interval_attention(inputs[0][some], *inputs[1:], intervals[some], **options)
    assert error(split.double(), want[0][some]) <= LIMITS[dtype]
    assert not split[~visible(intervals[some], keys).any(1)].any()


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name):
    check(LAYOUTS[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("width", [64, 80, 96, 128, 256])
def test_widths_and_types(width, dtype):
    check(two_way(19, (5, 17)), width=width, dtype=dtype)


@pytest.mark.parametrize("width", [1, 16, 24])
def test_narrow_heads(width):
    check(branches(9, 8), width=width)


@pytest.mark.parametrize(("kv_heads", "group"), [(3, 1), (2, 3), (1, 4), (1, 5), (2, 7), (1, 8), (1, 16)])
def test_groups(kv_heads, group):
    check(packed(5, 7), kv_heads, group, width=16)


@pytest.mark.parametrize("options", [{"scale": 0.5}, {"cap": 2.0}, {"scale": 1.0, "cap": 0.7}], ids=str)
def test_scale_and_cap(options):
    check(branches(20, 9, 3), width=16, **options)


@pytest.mark.slow
@pytest.mark.parametrize("n", [127, 129, 257])
def test_lengths_around_tiles(n):
    check(two_way(n, (n // 4, n // 2)), kv_heads=1, group=1)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_with_the_tiles_of_a_gpu(monkeypatch, arch):
    for file in ("attention_forward", "attention_backward", "attention_decode"):
        monkeypatch.setattr(f"anyany_kernels.{file}.architecture", lambda device: arch)
    check(branches(70, 133, 5), dtype=torch.bfloat16)
    check(branches(60, 9, 5), width=128, dtype=torch.float16)


def scattered(seed: int, count: int = 40, keys: int = 70) -> Tensor:
    """Any valid intervals over a pool: sorted cuts give two ranges that share no key, in either order."""
    draw = torch.Generator().manual_seed(seed)
    cuts = torch.randint(0, keys + 1, (count, 4), generator=draw, dtype=torch.int32).sort(1)[0].view(-1, 2, 2)
    return torch.where(torch.rand(count, 1, 1, generator=draw) < 0.5, cuts, cuts.flip(1))


@pytest.mark.parametrize("group", [1, 2, 3])
def test_any_intervals(group):
    check(scattered(group), group=group, width=16, keys=70)


@pytest.mark.parametrize("intervals", [scattered(9), shuffled(branches(20, 13, 9))], ids=["scattered", "no order"])
def test_what_a_row_does_not_see_never_reaches_it(intervals):
    intervals, keys = intervals.to(DEVICE), int(intervals.max())
    bad = torch.zeros(keys, dtype=torch.bool, device=DEVICE)
    bad[[keys // 3, keys - 2]] = True
    q, k, v = (x.detach() for x in drawn(intervals, keys, 1, 2, 16, torch.float32))
    some, safe = a_few(intervals), ~(visible(intervals, keys) & bad).any(dim=1)
    assert 5 < safe.sum() < len(safe) - 5

    def both() -> list[tuple[Tensor, Tensor]]:
        split = interval_attention(q[some], k, v, intervals[some])
        return [(forward(q, k, v, intervals, 0.25, None)[0], safe), (split, safe[some])]

    clean = both()
    k[bad], v[bad] = math.nan, math.nan
    for (found, safe_rows), (want, _) in zip(both(), clean, strict=True):
        assert torch.equal(found[safe_rows], want[safe_rows])
        assert found[~safe_rows].isnan().all()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_poison_reaches_no_gradient_of_another_document(poison):
    intervals = packed(40, 50).to(DEVICE)
    inputs = drawn(intervals, 90, 1, 2, 16, torch.float32)
    slope = torch.ones_like(inputs[0])
    clean = results(interval_attention, inputs, slope, intervals)
    with torch.no_grad():
        for x in inputs:
            x[:40] = poison
        slope[:40] = poison
    for name, found, want in zip(NAMES, results(interval_attention, inputs, slope, intervals), clean, strict=True):
        assert torch.equal(found[40:], want[40:]), name
        assert found[:40].isnan().all(), name


def test_log_sum_exp():
    intervals = blind(branches(20, 33, 5), 4).to(DEVICE)
    q, k, v = (x.detach() for x in drawn(intervals, 58, 2, 2, 16, torch.float32))
    _, lse = forward(q, k, v, intervals, 0.3, None)
    scores = torch.einsum("thd,shd->ths", q.double(), k.double().repeat_interleave(2, 1)) * 0.3
    want = scores.masked_fill(~visible(intervals, 58)[:, None], -math.inf).logsumexp(-1)
    torch.testing.assert_close(lse, want.float(), rtol=1e-5, atol=1e-5)


def test_the_backward_pass_is_the_same_bit_for_bit():
    intervals = branches(40, 20, 3).to(DEVICE)
    inputs = drawn(intervals, 63, 1, 2, 16, torch.bfloat16)
    slope = torch.randn(inputs[0].shape, device=DEVICE)
    first, second = (results(interval_attention, inputs, slope, intervals) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.skipif(DEVICE == "cuda", reason="looks into the interpreter")
def test_row_tiles_that_miss_the_keys_are_not_visited(monkeypatch):
    """Rows of another document lie between a prefix and its branches."""
    intervals = branches(32, 64, gap=64)
    assert attention_table.choose(attention_table.KEYS, "interpreter", torch.float32, 16)[:2] == (32, 32)
    q, k, v = (x.detach() for x in drawn(intervals, 160, 1, 2, 16, torch.float32))  # ten tiles of 16 rows
    out, lse = forward(q, k, v, intervals, 0.25, None)
    step, visits = attention_backward._key_step, []

    def count(*given):
        first_key, tile = given[13].handle.data.min(), getattr(given[11], "handle", None)
        visits.append((int(first_key) // 32, given[11] if tile is None else tile.data.item()))
        return step(*given)

    monkeypatch.setattr(attention_backward, "_key_step", count)
    attention_backward.backward(torch.randn_like(out), q, k, v, out, lse, intervals, 0.25, None)
    want = {0: [0, 1, 6, 7, 8, 9], 1: [2, 3, 4, 5], 2: [4, 5], 3: [6, 7, 8, 9], 4: [8, 9]}
    assert sorted(visits) == [(key, row) for key, found in want.items() for row in found]


def test_strides():
    """Slices of one buffer, as the projections of a block are, a layer of a pool, and an expanded slope."""
    intervals = packed(30).to(DEVICE)
    both = torch.randn(30, 8, 16, device=DEVICE)
    q, k, v = both[:, :4], both[:, 4:6], both[:, 6:]
    dense = [x.contiguous().requires_grad_() for x in (q, k, v)]
    inputs = [x.requires_grad_() for x in (q, k, v)]
    slope = torch.ones(1, 1, 1, device=DEVICE).expand(30, 4, 16)
    wide = torch.cat([intervals, intervals], 2)[:, :, :2]
    for found, want in zip(results(interval_attention, inputs, slope, wide),
                           results(interval_attention, dense, slope.contiguous(), intervals), strict=True):  # fmt: skip
        assert torch.equal(found, want)


def test_nothing_to_do():
    q, k = torch.zeros(0, 2, 16, device=DEVICE, requires_grad=True), torch.ones(3, 1, 16, device=DEVICE)
    none = torch.zeros(0, 2, 2, dtype=torch.int32, device=DEVICE)
    out = interval_attention(q, k, k, none)
    assert out.shape == q.shape
    assert torch.autograd.grad(out.sum(), q)[0].shape == q.shape
    q = torch.ones(4, 2, 16, device=DEVICE, requires_grad=True)
    out = interval_attention(q, k[:0], k[:0], torch.zeros(4, 2, 2, dtype=torch.int32, device=DEVICE))
    assert not out.any()
    assert not torch.autograd.grad(out.sum(), q)[0].any()


@pytest.mark.parametrize("keys", [1, 31, 65, 500])
def test_split_keys(monkeypatch, keys):
    """A pool in which each row sees a run of its own behind a prefix, split between more programs than key tiles."""
    monkeypatch.setattr(attention_decode, "processors", lambda device: 20)
    ranges = [[[0, min(7, keys)], [min(7 + 3 * i, keys), keys]] for i in range(3)]
    intervals = rows(ranges).to(DEVICE)
    q, k, v = (x.detach() for x in drawn(intervals, keys, 2, 4, 80, torch.bfloat16))
    found = interval_attention(q, k, v, intervals)
    want = reference(q.double(), k.double(), v.double(), intervals)
    assert error(found.double(), want) <= LIMITS[torch.bfloat16]


# PyTorch.


@pytest.mark.parametrize("cap", [None, 3.0])
def test_the_operators_are_registered_right(cap):
    intervals = branches(5, 4).to(DEVICE)
    q, k, v = drawn(intervals, 9, 1, 2, 16, torch.float32)
    torch.library.opcheck(module._forward, (q, k, v, intervals, 0.25, cap))
    plain = [x.detach() for x in (q, k, v)]
    torch.library.opcheck(module._decode, (*plain, intervals, 0.25, cap))
    out, lse = module._forward(*plain, intervals, 0.25, cap)
    torch.library.opcheck(module._backward, (torch.ones_like(out), *plain, out, lse, intervals, 0.25, cap))


@pytest.mark.parametrize("learns", [False, True])
def test_compiled_whole(learns):
    intervals = packed(20, 5).to(DEVICE)
    inputs = drawn(intervals, 25, 1, 2, 16, torch.float32)
    double = torch.compile(lambda *x: interval_attention(*x) * 2, fullgraph=True, backend="aot_eager")
    if not learns:
        with torch.no_grad():
            assert torch.equal(double(*inputs, intervals), interval_attention(*inputs, intervals) * 2)
        return
    slope = torch.ones_like(inputs[0])
    found = results(double, inputs, slope, intervals)
    want = results(interval_attention, inputs, slope * 2, intervals)
    assert torch.equal(found[0], want[0] * 2)
    assert all(torch.equal(f, w) for f, w in zip(found[1:], want[1:], strict=True))


# What is refused.


def refused(**changes):
    given = {
        "q": torch.zeros(6, 4, 16, device=DEVICE), "k": torch.zeros(6, 2, 16, device=DEVICE),
        "v": torch.zeros(6, 2, 16, device=DEVICE), "intervals": packed(6).to(DEVICE),
    } | changes  # fmt: skip
    return interval_attention(**given)


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"q": torch.zeros(6, 4, 16, dtype=torch.float64)}, KernelTypeError, "float64"),
        ({"k": torch.zeros(6, 2, 16, dtype=torch.float16)}, KernelTypeError, "q is torch.float32, k is torch.float16"),
        ({"intervals": packed(6).long()}, KernelTypeError, "int32"),
        ({"intervals": packed(5)}, KernelValueError, r"\(6, 2, 2\)"),
        ({"intervals": packed(6)[:, 1]}, KernelValueError, r"\(6, 2, 2\)"),
        ({"q": torch.zeros(6, 64)}, KernelValueError, "three axes"),
        ({"q": torch.zeros(6, 3, 16)}, KernelValueError, "3 for 2"),
        ({"q": torch.zeros(6, 34, 16)}, KernelValueError, "34 for 2"),
        ({"q": torch.zeros(6, 4, 8)}, KernelValueError, "width 8"),
        ({"v": torch.zeros(5, 2, 16)}, KernelValueError, "expected v of shape"),
        ({"k": torch.zeros(6, 16, 2).mT}, KernelValueError, "stride 2"),
        ({"cap": 0.0}, KernelValueError, "positive cap"),
        ({"k": torch.zeros(1, 1, 16).expand(6, 2, 16), "q": torch.zeros(1).expand(6, 4, 16)}, KernelValueError,
         "stride 0"),
        ({x: torch.zeros(6, 4, 257) for x in "qkv"}, KernelValueError, "1 to 256"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.skipif(DEVICE == "cuda", reason="the inputs are made on a CPU")
def test_bad_input_is_refused_before_a_launch(changes, kind, text, learns):
    if learns:
        changes = {"q": torch.zeros(6, 4, 16)} | changes
        changes["q"] = changes["q"].detach().requires_grad_()
    with pytest.raises(kind, match=text):
        refused(**changes)


def test_too_many_elements_are_refused(monkeypatch):
    monkeypatch.setattr("anyany_kernels.checks.LARGEST", 6 * 4 * 16)
    with pytest.raises(KernelValueError, match="q reaches over 384 elements"):
        refused()
