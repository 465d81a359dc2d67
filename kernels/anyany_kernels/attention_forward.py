"""Interval attention, forward: one program per row tile and key head, with a running softmax.

FlashAttention (Dao 2023, arXiv 2307.08691) over the two hulls of a tile: first the key tiles that need a mask, then
the full ones, for the prefix and for the own run.

Shapes: T rows, S keys, H query heads, Hkv key heads, Dh head width; M lines, N keys of a tile, D padded width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from anyany_kernels.attention_table import FORWARD, Config, choose, fixed
from anyany_kernels.attention_tiles import (
    key_tiles,
    lines,
    load_tile,
    product,
    ranges,
    scores,
    silence,
    store_tile,
    visible,
)
from anyany_kernels.device import architecture

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _step(
    q, top, total, mixed, k, v, k_row, v_row, start, stop, low, high, scale, cap,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK_N: tl.constexpr, CAPPED: tl.constexpr, MASKED: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One key tile: maximum ``top (M,)``, sum ``total (M,)`` and weighted values ``mixed (M, D)``, carried on."""
    key = start + tl.arange(0, BLOCK_N)
    keys = load_tile(k, key * k_row, key < stop, WIDTH, PADDED, MASKED)
    score, _ = scores(q, keys, scale, cap, CAPPED, OPERAND, PRECISION)  # (M, N)
    values = load_tile(v, key * v_row, key < stop, WIDTH, PADDED, MASKED)
    if MASKED:
        values, doubt = silence(values)
        score = tl.where(visible(key, low, high), score + doubt[None, :], -float("inf"))
    highest = tl.maximum(top, tl.max(score, axis=1))
    level = highest
    if MASKED:  # -inf minus -inf would be NaN
        level = tl.where(highest == -float("inf"), 0.0, highest)
    weights = tl.exp2(score - level[:, None])
    shrink = tl.exp2(top - level)
    mixed = mixed * shrink[:, None] + product(weights.to(values.dtype), values, OPERAND, PRECISION)
    return highest, total * shrink + tl.sum(weights, axis=1), mixed


@triton.jit(do_not_specialize=["rows"])
def attend(
    q, k, v, intervals, out, lse, rows, q_row, q_head, k_row, k_head, v_row, v_head, scale, cap,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, CAPPED: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One row tile of one key head: ``out`` and log-sum-exp."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)  # causal rows see the more the later they are: longest first
    row, member, real = lines(tile, rows, GROUP, BLOCK_M)
    head = tl.program_id(1) * GROUP + member
    queries = load_tile(q, row * q_row + head * q_head, real, WIDTH, PADDED, True)  # (M, D)
    k += tl.program_id(1) * k_head
    v += tl.program_id(1) * v_head
    top = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    mixed = tl.zeros([BLOCK_M, PADDED], tl.float32)
    sees = tl.zeros([BLOCK_M], tl.int1)
    for KIND in tl.static_range(2):
        low, high = ranges(intervals, row, real, KIND)
        sees = sees | (high > low)
        first, stop, before, full, masked = key_tiles(low, high, real, BLOCK_N)
        for i in tl.range(0, masked):
            start = first + tl.where(i < before, i, i + full) * BLOCK_N
            top, total, mixed = _step(queries, top, total, mixed, k, v, k_row, v_row, start, stop, low, high, scale,
                                      cap, WIDTH, PADDED, BLOCK_N, CAPPED, True, OPERAND, PRECISION)  # fmt: skip
        for i in tl.range(0, full):
            start = first + (before + i) * BLOCK_N
            top, total, mixed = _step(queries, top, total, mixed, k, v, k_row, v_row, start, stop, low, high, scale,
                                      cap, WIDTH, PADDED, BLOCK_N, CAPPED, False, OPERAND, PRECISION)  # fmt: skip
    total = tl.where(sees, total, 1.0)
    at = row * HEADS + head
    store_tile(out, at * WIDTH, mixed / total[:, None], real, WIDTH, PADDED)
    tl.store(lse + at, (top + tl.log2(total)) * LN2, mask=real)


def forward(
    q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, scale: float, cap: float | None
) -> tuple[Tensor, Tensor]:
    """``(T, H, Dh)`` and the log-sum-exp of each row's scores ``(T, H)`` in float32; -inf where it sees no key."""
    rows, heads, width = q.shape
    out = q.new_empty(rows, heads, width)
    lse = q.new_empty(rows, heads, dtype=torch.float32)
    if out.numel():
        config = choose(FORWARD, architecture(q.device), q.dtype, width)
        launch(config, q, k, v, intervals, out, lse, scale, cap)
    return out, lse


def launch(
    config: Config, q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, out: Tensor, lse: Tensor,
    scale: float, cap: float | None,
) -> None:  # fmt: skip
    """Start the kernel with a configuration."""
    group = q.shape[1] // k.shape[1]
    grid = (triton.cdiv(len(q), config.rows // group), k.shape[1])
    attend[grid](
        q, k, v, intervals, out, lse, len(q), *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], scale, cap or 1.0,
        HEADS=q.shape[1], GROUP=group, BLOCK_M=config.rows, BLOCK_N=config.keys, num_warps=config.warps,
        num_stages=config.stages, **fixed(q.dtype, q.shape[-1], cap),
    )  # fmt: skip
