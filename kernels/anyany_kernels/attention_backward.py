"""Interval attention, backward: one kernel for queries, one for keys and values, each number written by one program.

The kernel of the queries walks the key tiles of its rows as the forward pass does. That of keys and values walks the
row tiles that see its keys, with all query heads of the group, so that nothing is added up by atomics: the same
inputs give the same bits.

Shapes: T rows, S keys, H query heads, Hkv key heads, Dh head width; M lines, N keys of a tile, D padded width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from anyany_kernels.attention_table import KEYS, QUERIES, choose, fixed
from anyany_kernels.attention_tiles import (
    bounds,
    key_tiles,
    lines,
    load_level,
    load_tile,
    product,
    ranges,
    scores,
    silence,
    store_tile,
    visible,
)
from anyany_kernels.device import architecture

CHUNK = tl.constexpr(256)
"""Row tiles whose bounds are looked at together."""


@triton.jit(do_not_specialize=["rows"])
def prepare(
    out, slope, intervals, delta, edges, rows,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """``delta (T, H)``: the sum of ``out * slope``; and hull and core of each row tile, ``edges (2, 4, tiles)``."""
    tile, tiles = tl.program_id(0), tl.num_programs(0)
    row, member, real = lines(tile, rows, GROUP, BLOCK_M)
    at = row * HEADS + tl.program_id(1) * GROUP + member
    a = load_tile(out, at * WIDTH, real, WIDTH, PADDED, True).to(tl.float32)
    b = load_tile(slope, at * WIDTH, real, WIDTH, PADDED, True).to(tl.float32)
    tl.store(delta + at, tl.sum(a * b, axis=1), mask=real)
    if tl.program_id(1) == 0:
        for KIND in tl.static_range(2):
            low, high = ranges(intervals, row, real, KIND)
            hull_low, hull_high, core_low, core_high = bounds(low, high, real)
            to = edges + KIND * 4 * tiles + tile
            tl.store(to, hull_low)
            tl.store(to + tiles, hull_high)
            tl.store(to + 2 * tiles, core_low)
            tl.store(to + 3 * tiles, core_high)


@triton.jit
def _slopes(
    a, b, to_a, to_b, level, mean, doubt, seen, scale, cap,
    CAPPED: tl.constexpr, MASKED: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Weights, and the slopes of the products ``a @ b.T`` without their scale: ``(M, N)``, or ``(N, M)``.

    ``a`` and ``b`` are queries and keys, ``to_a`` and ``to_b`` slopes of the output and values; or the other way round.
    """
    score, bent = scores(a, b, scale, cap, CAPPED, OPERAND, PRECISION)
    if MASKED:
        score += doubt[None, :]
    weights = tl.exp2(score - level)
    to_scores = weights * (product(to_a, tl.trans(to_b), OPERAND, PRECISION) - mean)
    if CAPPED:
        to_scores *= bent
    if MASKED:
        weights = tl.where(seen, weights, 0.0)
        to_scores = tl.where(seen, to_scores, 0.0)
    return weights, to_scores


@triton.jit
def _query_step(
    q, slope, level, mean, sum_q, k, v, k_row, v_row, start, stop, low, high, scale, cap,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK_N: tl.constexpr, CAPPED: tl.constexpr, MASKED: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What one key tile adds to the gradient of the queries, ``(M, D)``."""
    key = start + tl.arange(0, BLOCK_N)
    keys = load_tile(k, key * k_row, key < stop, WIDTH, PADDED, MASKED)
    values = load_tile(v, key * v_row, key < stop, WIDTH, PADDED, MASKED)
    clean, doubt = keys, key
    if MASKED:
        clean, doubt = silence(keys)
    _, to_scores = _slopes(q, keys, slope, values, level[:, None], mean[:, None], doubt, visible(key, low, high),
                           scale, cap, CAPPED, MASKED, OPERAND, PRECISION)  # fmt: skip
    return sum_q + product(to_scores.to(clean.dtype), clean, OPERAND, PRECISION)


@triton.jit(do_not_specialize=["rows"])
def query_gradient(
    q, k, v, intervals, slope, lse, delta, to_q, rows, q_row, q_head, k_row, k_head, v_row, v_head, scale, cap,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAPPED: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One row tile of one key head: the gradient of its queries."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    row, member, real = lines(tile, rows, GROUP, BLOCK_M)
    head = tl.program_id(1) * GROUP + member
    at = row * HEADS + head
    queries = load_tile(q, row * q_row + head * q_head, real, WIDTH, PADDED, True)
    slopes = load_tile(slope, at * WIDTH, real, WIDTH, PADDED, True)
    level = load_level(lse, at, real)
    mean = tl.load(delta + at, mask=real, other=0.0)
    k += tl.program_id(1) * k_head
    v += tl.program_id(1) * v_head
    sum_q = tl.zeros([BLOCK_M, PADDED], tl.float32)
    for KIND in tl.static_range(2):
        low, high = ranges(intervals, row, real, KIND)
        first, stop, before, full, masked = key_tiles(low, high, real, BLOCK_N)
        for i in tl.range(0, masked):
            start = first + tl.where(i < before, i, i + full) * BLOCK_N
            sum_q = _query_step(queries, slopes, level, mean, sum_q, k, v, k_row, v_row, start, stop, low, high, scale,
                                cap, WIDTH, PADDED, BLOCK_N, CAPPED, True, OPERAND, PRECISION)  # fmt: skip
        for i in tl.range(0, full):
            start = first + (before + i) * BLOCK_N
            sum_q = _query_step(queries, slopes, level, mean, sum_q, k, v, k_row, v_row, start, stop, low, high, scale,
                                cap, WIDTH, PADDED, BLOCK_N, CAPPED, False, OPERAND, PRECISION)  # fmt: skip
    store_tile(to_q, at * WIDTH, sum_q * scale, real, WIDTH, PADDED)


@triton.jit
def _meets(edges, tile, tiles, inside, start, stop):
    """Whether row tiles see any key of ``[start, stop)``, and whether all their rows see all of them."""
    hit = start < 0
    full = start < 0
    for KIND in tl.static_range(2):
        at = edges + KIND * 4 * tiles + tile
        hull_low = tl.load(at, mask=inside, other=0)
        hull_high = tl.load(at + tiles, mask=inside, other=0)
        core_low = tl.load(at + 2 * tiles, mask=inside, other=0)
        core_high = tl.load(at + 3 * tiles, mask=inside, other=0)
        hit = hit | ((hull_low < stop) & (hull_high > start))
        full = full | ((core_low <= start) & (core_high >= stop))
    return hit, full


@triton.jit
def _row_tiles(edges, tiles, start, stop):
    """The first row tile that sees a key of the tile, the end of those, and first and end of the full ones.

    Where other tiles lie among the full ones, none counts as full: a mask is right for any.
    """
    first, last, first_full, last_full, count = tiles, 0, tiles, 0, 0
    for begin in tl.range(0, tiles, CHUNK):
        tile = begin + tl.arange(0, CHUNK)
        hit, full = _meets(edges, tile, tiles, tile < tiles, start, stop)
        first = tl.minimum(first, tl.min(tl.where(hit, tile, tiles), axis=0))
        last = tl.maximum(last, tl.max(tl.where(hit, tile + 1, 0), axis=0))
        first_full = tl.minimum(first_full, tl.min(tl.where(full, tile, tiles), axis=0))
        last_full = tl.maximum(last_full, tl.max(tl.where(full, tile + 1, 0), axis=0))
        count += tl.sum(full.to(tl.int32), axis=0)
    scattered = (count == 0) | (count != last_full - first_full)
    return first, last, tl.where(scattered, last, first_full), tl.where(scattered, last, last_full)


@triton.jit
def _key_step(
    keys, values, sum_k, sum_v, q, slope, lse, delta, intervals, q_row, q_head, tile, rows, key, scale, cap,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr,
    CAPPED: tl.constexpr, MASKED: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What one row tile adds to the gradients of keys and values, ``(N, D)`` each."""
    row, member, real = lines(tile, rows, GROUP, BLOCK_M)
    head = tl.program_id(1) * GROUP + member
    at = row * HEADS + head
    queries = load_tile(q, row * q_row + head * q_head, real, WIDTH, PADDED, True)
    slopes = load_tile(slope, at * WIDTH, real, WIDTH, PADDED, True)
    level = load_level(lse, at, real)
    mean = tl.load(delta + at, mask=real, other=0.0)
    seen = key[:, None] < 0 * row[None, :]
    doubt = mean
    if MASKED:
        queries, doubt = silence(queries)
        slopes, doubtful = silence(slopes)
        doubt += doubtful
        for KIND in tl.static_range(2):
            low, high = ranges(intervals, row, real, KIND)
            seen = seen | ((key[:, None] >= low[None, :]) & (key[:, None] < high[None, :]))
    weights, to_scores = _slopes(keys, queries, values, slopes, level[None, :], mean[None, :], doubt, seen, scale, cap,
                                 CAPPED, MASKED, OPERAND, PRECISION)  # fmt: skip
    return (sum_k + product(to_scores.to(queries.dtype), queries, OPERAND, PRECISION),
            sum_v + product(weights.to(slopes.dtype), slopes, OPERAND, PRECISION))  # fmt: skip


@triton.jit(do_not_specialize=["rows", "count", "tiles"])
def key_gradient(
    q, k, v, intervals, slope, lse, delta, edges, to_k, to_v, rows, count, tiles,
    q_row, q_head, k_row, k_head, v_row, v_head, scale, cap,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAPPED: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One key tile of one key head: the gradients of its keys and values."""
    start = tl.program_id(0) * BLOCK_N
    key = start + tl.arange(0, BLOCK_N)
    inside = key < count
    keys = load_tile(k, key * k_row + tl.program_id(1) * k_head, inside, WIDTH, PADDED, True)
    values = load_tile(v, key * v_row + tl.program_id(1) * v_head, inside, WIDTH, PADDED, True)
    sum_k = tl.zeros([BLOCK_N, PADDED], tl.float32)
    sum_v = tl.zeros([BLOCK_N, PADDED], tl.float32)
    stop = tl.minimum(start + BLOCK_N, count)
    first, last, first_full, last_full = _row_tiles(edges, tiles, start, stop)
    full = last_full - first_full
    for i in tl.range(first, last - full):
        tile = tl.where(i < first_full, i, i + full)
        hit, _ = _meets(edges, tile, tiles, True, start, stop)
        if hit:
            sum_k, sum_v = _key_step(keys, values, sum_k, sum_v, q, slope, lse, delta, intervals, q_row, q_head, tile,
                                     rows, key, scale, cap, HEADS, GROUP, WIDTH, PADDED, BLOCK_M, CAPPED, True, OPERAND,
                                     PRECISION)  # fmt: skip
    for tile in tl.range(first_full, last_full):
        sum_k, sum_v = _key_step(keys, values, sum_k, sum_v, q, slope, lse, delta, intervals, q_row, q_head, tile,
                                 rows, key, scale, cap, HEADS, GROUP, WIDTH, PADDED, BLOCK_M, CAPPED, False, OPERAND,
                                 PRECISION)  # fmt: skip
    at = (key * tl.num_programs(1) + tl.program_id(1)) * WIDTH
    store_tile(to_k, at, sum_k * scale, inside, WIDTH, PADDED)
    store_tile(to_v, at, sum_v, inside, WIDTH, PADDED)


def backward(
    slope: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, intervals: Tensor,
    scale: float, cap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of queries, keys and values, from that of the output ``(T, H, Dh)``, which is dense."""
    (rows, heads, width), (count, kv_heads) = q.shape, k.shape[:2]
    to_q, to_k, to_v = q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
    if not out.numel() or not to_k.numel():
        return to_q.zero_(), to_k.zero_(), to_v.zero_()
    arch, group = architecture(q.device), heads // kv_heads
    by_rows, by_keys = choose(QUERIES, arch, q.dtype, width), choose(KEYS, arch, q.dtype, width)
    given = fixed(q.dtype, width, cap)
    shape = {"HEADS": heads, "GROUP": group, "BLOCK_M": by_keys.rows}
    tiles = triton.cdiv(rows, by_keys.rows // group)
    delta, edges = torch.empty_like(lse), intervals.new_empty(2, 4, tiles)
    prepare[tiles, kv_heads](
        out, slope, intervals, delta, edges, rows, **shape, WIDTH=width, PADDED=given["PADDED"], num_warps=8
    )
    steps = (*q.stride()[:2], *k.stride()[:2], *v.stride()[:2], scale, cap or 1.0)
    query_gradient[triton.cdiv(rows, by_rows.rows // group), kv_heads](
        q, k, v, intervals, slope, lse, delta, to_q, rows, *steps, **shape | {"BLOCK_M": by_rows.rows},
        BLOCK_N=by_rows.keys, num_warps=by_rows.warps, num_stages=by_rows.stages, **given,
    )  # fmt: skip
    key_gradient[triton.cdiv(count, by_keys.keys), kv_heads](
        q, k, v, intervals, slope, lse, delta, edges, to_k, to_v, rows, count, tiles, *steps, **shape,
        BLOCK_N=by_keys.keys, num_warps=by_keys.warps, num_stages=by_keys.stages, **given,
    )  # fmt: skip
    return to_q, to_k, to_v
