"""Interval attention of a few rows over a long cache: the keys of each row are split between programs.

Each program holds the query heads of one row that share a key head, and walks a share of the keys that the row sees;
the results are merged by their log-sum-exp (Flash-Decoding, Dao et al. 2023). The cost follows the keys that are
seen, not the size of the pool, and rows never share a tile: those of other requests lie anywhere.

Shapes: T rows, H query heads, Hkv key heads, Dh head width; M lines of one row, N keys of a tile, D padded width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from anyany_kernels.attention_table import DECODE, choose, fixed
from anyany_kernels.attention_tiles import load_tile, product, scores, store_tile
from anyany_kernels.device import architecture, processors

MOST = 64
"""Programs that share the keys of a row."""


@triton.jit
def attend_split(
    q, k, v, intervals, parts, levels, q_row, q_head, k_row, k_head, v_row, v_head, scale, cap,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAPPED: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One share of the keys of one row: its softmax alone, and the base-2 logarithm of its sum."""
    row, split, splits = tl.program_id(0), tl.program_id(2), tl.num_programs(2)
    member = tl.arange(0, BLOCK_M)
    head = tl.program_id(1) * GROUP + member
    real = member < GROUP
    queries = load_tile(q, row * q_row + head * q_head, real, WIDTH, PADDED, True)
    k += tl.program_id(1) * k_head
    v += tl.program_id(1) * v_head
    prefix, own = tl.load(intervals + row * 4), tl.load(intervals + row * 4 + 2)
    shared = tl.load(intervals + row * 4 + 1) - prefix  # keys of the prefix
    count = shared + tl.load(intervals + row * 4 + 3) - own
    share = tl.cdiv(tl.cdiv(count, splits), BLOCK_N) * BLOCK_N
    begin = tl.minimum(split * share, count)
    end = tl.minimum(begin + share, count)
    top = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    mixed = tl.zeros([BLOCK_M, PADDED], tl.float32)
    for start in tl.range(begin, end, BLOCK_N):
        place = start + tl.arange(0, BLOCK_N)  # in the prefix with the own run behind it
        inside = place < end
        key = tl.where(place < shared, prefix + place, own + place - shared)
        keys = load_tile(k, key * k_row, inside, WIDTH, PADDED, True)
        score, _ = scores(queries, keys, scale, cap, CAPPED, OPERAND, PRECISION)
        score = tl.where(inside[None, :], score, -float("inf"))
        highest = tl.maximum(top, tl.max(score, axis=1))
        weights = tl.exp2(score - highest[:, None])
        shrink = tl.exp2(top - highest)
        values = load_tile(v, key * v_row, inside, WIDTH, PADDED, True)
        mixed = mixed * shrink[:, None] + product(weights.to(values.dtype), values, OPERAND, PRECISION)
        total = total * shrink + tl.sum(weights, axis=1)
        top = highest
    total = tl.where(begin < end, total, 1.0)
    at = (row * HEADS + head) * splits + split
    store_tile(parts, at * WIDTH, mixed / total[:, None], real, WIDTH, PADDED)
    tl.store(levels + at, top + tl.log2(total), mask=real)


@triton.jit(do_not_specialize=["splits"])
def merge(parts, levels, out, splits, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):
    """One head of one row: the shares, weighted by the sums that they stand for; zeros where no share saw a key."""
    at = tl.program_id(0)
    split = tl.arange(0, BLOCK)
    inside = split < splits
    level = tl.load(levels + at * splits + split, mask=inside, other=-float("inf"))
    top = tl.max(level, axis=0)
    weight = tl.exp2(level - tl.where(top == -float("inf"), 0.0, top))  # (BLOCK,)
    part = load_tile(parts, (at * splits + split) * WIDTH, inside, WIDTH, PADDED, True)
    total = tl.sum(weight, axis=0)
    mixed = tl.sum(part * weight[:, None], axis=0) / tl.where(total == 0, 1.0, total)
    column = tl.arange(0, PADDED)
    tl.store(out + at * WIDTH + column, mixed.to(out.dtype.element_ty), mask=column < WIDTH)


def decode(q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, scale: float, cap: float | None) -> Tensor:
    """``(T, H, Dh)``; the number of programs follows from the shapes alone, so that a captured graph stays valid."""
    (rows, heads, width), kv_heads = q.shape, k.shape[1]
    out = q.new_empty(q.shape)
    if not out.numel():
        return out
    splits = min(MOST, max(1, 2 * processors(q.device) // (rows * kv_heads)))
    parts = q.new_empty(rows, heads, splits, width, dtype=torch.float32)
    levels = q.new_empty(rows, heads, splits, dtype=torch.float32)
    config = choose(DECODE, architecture(q.device), q.dtype, width)
    group, given = heads // kv_heads, fixed(q.dtype, width, cap)
    attend_split[rows, kv_heads, splits](
        q, k, v, intervals, parts, levels, *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], scale, cap or 1.0,
        HEADS=heads, GROUP=group, BLOCK_M=config.rows, BLOCK_N=config.keys,
        num_warps=config.warps, num_stages=config.stages, **given,
    )  # fmt: skip
    merge[(rows * heads,)](parts, levels, out, splits, WIDTH=width, PADDED=given["PADDED"], BLOCK=MOST, num_warps=4)
    return out
