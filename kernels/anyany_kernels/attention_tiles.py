"""What the attention kernels share: lines of a row tile, the keys that it sees, scores, and products.

A row tile holds whole rows: line m is query head ``m % GROUP`` of row ``m // GROUP``, all of one key head. The *hull*
of a tile's ranges holds every key that any row of it sees, the *core* the keys that all of them see. Key tiles
outside the hull are skipped, those inside the core need no mask.

Shapes: M lines, N keys of a tile, D padded head width.
"""

from __future__ import annotations

import triton
import triton.language as tl

FAR = tl.constexpr(2**31 - 1)
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def lines(tile, rows, GROUP: tl.constexpr, BLOCK_M: tl.constexpr):
    """Row and head of each line ``(M,)``, and whether the line holds any."""
    line = tl.arange(0, BLOCK_M)
    row = tile * (BLOCK_M // GROUP) + line // GROUP
    real = (line < BLOCK_M // GROUP * GROUP) & (row < rows)
    return row, line % GROUP, real


@triton.jit
def ranges(intervals, row, real, KIND: tl.constexpr):
    """``[low, high)`` of each line ``(M,)``: prefix for kind 0, own for 1; empty where there is no row."""
    at = intervals + row * 4 + KIND * 2
    return tl.load(at, mask=real, other=0), tl.load(at + 1, mask=real, other=0)


@triton.jit
def bounds(low, high, real):
    """Hull and core of a tile, two integers each. Any order of rows is right."""
    sees = high > low
    hull_low = tl.min(tl.where(sees, low, FAR), axis=0)
    hull_high = tl.max(tl.where(sees, high, 0), axis=0)
    core_low = tl.max(tl.where(real, low, 0), axis=0)
    core_high = tl.min(tl.where(real, high, FAR), axis=0)
    return hull_low, hull_high, core_low, core_high


@triton.jit
def key_tiles(low, high, real, BLOCK_N: tl.constexpr):
    """First key, end of the hull, masked key tiles before the full ones, full ones, and masked ones in all."""
    hull_low, hull_high, core_low, core_high = bounds(low, high, real)
    count = tl.cdiv(tl.maximum(hull_high - hull_low, 0), BLOCK_N)
    before = tl.cdiv(tl.maximum(core_low - hull_low, 0), BLOCK_N)
    full = tl.maximum(core_high - hull_low - before * BLOCK_N, 0) // BLOCK_N  # none where the core is empty
    return hull_low, hull_high, before, full, count - full


@triton.jit
def visible(key, low, high):
    """Which keys ``(N,)`` lie in the ranges of lines ``(M,)``: ``(M, N)``."""
    return (key[None, :] >= low[:, None]) & (key[None, :] < high[:, None])


@triton.jit
def load_tile(x, at, inside, WIDTH: tl.constexpr, PADDED: tl.constexpr, BOUNDED: tl.constexpr):
    """Vectors of ``x`` at offsets ``at (N,)`` -> ``(N, D)``; zeros beyond the width, and not ``inside`` if bounded."""
    column = tl.arange(0, PADDED)
    where = x + at[:, None] + column[None, :]
    if BOUNDED and WIDTH < PADDED:
        return tl.load(where, mask=inside[:, None] & (column[None, :] < WIDTH), other=0.0)
    if BOUNDED:
        return tl.load(where, mask=inside[:, None], other=0.0)
    if WIDTH < PADDED:
        return tl.load(where, mask=column[None, :] < WIDTH, other=0.0)
    return tl.load(where)


@triton.jit
def store_tile(x, at, values, inside, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Write ``(N, D)`` to offsets ``at (N,)`` of ``x``."""
    column = tl.arange(0, PADDED)
    mask = inside[:, None] & (column[None, :] < WIDTH)
    tl.store(x + at[:, None] + column[None, :], values.to(x.dtype.element_ty), mask=mask)


@triton.jit
def load_level(lse, at, real):
    """Log-sum-exp of lines in units of ln 2; where a line holds no row or sees no key +inf, so that weights are 0."""
    level = tl.load(lse + at, mask=real, other=float("inf")) * LOG2E
    return tl.where(level == -float("inf"), float("inf"), level)


@triton.jit
def product(a, b, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    """``a @ b`` in float32. ``OPERAND`` is the type of the elements; the interpreter multiplies bfloat16 as float32."""
    return tl.dot(a.to(OPERAND), b.to(OPERAND), input_precision=PRECISION)


@triton.jit
def silence(x):
    """``x (N, D)`` without what is not finite, and for each of its vectors 0, or NaN where something was taken out.

    A weight of zero does not silence NaN or infinity. So they must not be in a product with lines that do not see
    them; the NaN, added to the scores before these are masked, brings them back to the lines that do.
    """
    finite = tl.abs(x.to(tl.float32)) < float("inf")
    doubt = tl.where(tl.min(finite.to(tl.int32), axis=1) > 0, 0.0, float("nan"))
    return tl.where(finite, x, 0.0).to(x.dtype), doubt


@triton.jit
def scores(q, k, scale, cap, CAPPED: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    """Scores ``(M, N)`` in units of ln 2, and, where they are capped, their slope in what they were."""
    score = product(q, tl.trans(k), OPERAND, PRECISION) * scale
    slope = score
    if CAPPED:  # cap * tanh(score / cap); from exp(-2 |x|), which cannot overflow
        small = tl.exp(-2.0 * tl.abs(score) / cap)
        bent = tl.where(score < 0, -1.0, 1.0) * (1.0 - small) / (1.0 + small)
        score = bent * cap
        slope = 1.0 - bent * bent
    return score * LOG2E, slope
