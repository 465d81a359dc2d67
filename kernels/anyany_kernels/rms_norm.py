"""Root mean square norm (Zhang and Sennrich 2019, arXiv 1910.07467), alone or behind the sum of a residual.

Shapes: n vectors of width D; R vectors of a tile, B padded width.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from anyany_kernels.checks import check_floats, check_shape
from anyany_kernels.device import on, processors
from anyany_kernels.errors import KernelValueError

WIDEST = 32768
TILE = 4096
"""Elements of a tile; one vector where it is longer."""


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x / sqrt(mean(x ** 2) + eps) * weight``, taken in float32.

    Args:
        x: ``(..., D)`` in float16, bfloat16 or float32; D is 32768 at most.
        weight: ``(D,)`` in the dtype of ``x``.
        eps: Added to the mean square.

    Raises:
        KernelTypeError: Wrong or mixed dtypes or devices.
        KernelValueError: Shapes that do not fit, 2**31 elements and more.
        KernelUnavailableError: No kernel runs on the device.
    """
    return _norm(x, None, weight, eps)[0]


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of ``x + residual``, and that sum, each in the dtype of ``x``; arguments and errors as above."""
    out, total, _ = _norm(x, residual, weight, eps)
    return out, total


@triton.jit(do_not_specialize=["rows"])
def norm_forward(
    x, residual, weight, out, total, inverse, rows, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, ADDS: tl.constexpr,
):  # fmt: skip
    """A tile of vectors: the norm, the sum if there is one, and ``1 / sqrt(mean square + eps)`` for the backward."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    at = row[:, None] * WIDTH + column[None, :]
    mask = (row[:, None] < rows) & (column[None, :] < WIDTH)
    a = tl.load(x + at, mask=mask, other=0.0)
    if ADDS:
        a = (a.to(tl.float32) + tl.load(residual + at, mask=mask, other=0.0).to(tl.float32)).to(a.dtype)
        tl.store(total + at, a, mask=mask)
    a = a.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(a * a, axis=1) / WIDTH + eps)  # (R,)
    w = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    tl.store(out + at, (a * scale[:, None] * w[None, :]).to(out.dtype.element_ty), mask=mask)
    tl.store(inverse + row, scale, mask=row < rows)


@triton.jit(do_not_specialize=["rows", "tiles"])
def norm_backward(
    slope, through, x, weight, inverse, to_x, to_weight, rows, tiles,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, ADDS: tl.constexpr,
):  # fmt: skip
    """Every so many tiles of vectors: their gradient, and their share of the weight's, ``(programs, D)``."""
    column = tl.arange(0, BLOCK)
    w = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    share = tl.zeros([BLOCK], tl.float32)
    for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0)):
        row = tile * ROWS + tl.arange(0, ROWS)
        at = row[:, None] * WIDTH + column[None, :]
        mask = (row[:, None] < rows) & (column[None, :] < WIDTH)
        scale = tl.load(inverse + row, mask=row < rows, other=0.0)
        normed = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) * scale[:, None]
        g = tl.load(slope + at, mask=mask, other=0.0).to(tl.float32)
        share += tl.sum(g * normed, axis=0)
        g *= w[None, :]
        mean = tl.sum(g * normed, axis=1) / WIDTH  # (R,)
        g = (g - normed * mean[:, None]) * scale[:, None]
        if ADDS:
            g += tl.load(through + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(to_x + at, g.to(to_x.dtype.element_ty), mask=mask)
    tl.store(to_weight + tl.program_id(0) * WIDTH + column, share, mask=column < WIDTH)


def tile(width: int) -> dict[str, int]:
    """Compile-time sizes for vectors of a width.

    Raises:
        KernelValueError: Wider than a program holds.
    """
    if not 1 <= width <= WIDEST:
        raise KernelValueError(f"rms_norm: expected a width of 1 to {WIDEST}, got {width}")
    block = triton.next_power_of_2(width)
    return {"WIDTH": width, "BLOCK": block, "ROWS": max(1, TILE // block), "num_warps": 8 if block > TILE else 4}


@torch.library.custom_op("anyany_kernels::rms_norm", mutates_args=())
def _norm(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    if x.dim() == 0:
        raise KernelValueError("rms_norm: expected at least one axis, got a number")
    sizes = tile(x.shape[-1])
    check_shape("rms_norm", "weight", weight, x.shape[-1])
    x = x.contiguous()
    if residual is None:
        check_floats("rms_norm", x=x, weight=weight)
    else:
        check_shape("rms_norm", "residual", residual, *x.shape)
        residual = residual.contiguous()
        check_floats("rms_norm", x=x, weight=weight, residual=residual)
    rows = x.numel() // x.shape[-1]
    out, total, inverse = _empty(x, residual)
    if rows:
        with on(x.device):
            norm_forward[(triton.cdiv(rows, sizes["ROWS"]),)](
                x, x if residual is None else residual, weight.contiguous(), out, total, inverse, rows, eps,
                ADDS=residual is not None, **sizes,
            )  # fmt: skip
    return out, total, inverse


def _empty(x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    total = x.new_empty(0 if residual is None else x.shape)
    return x.new_empty(x.shape), total, x.new_empty(x.shape[:-1], dtype=torch.float32)


@_norm.register_fake
def _(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return _empty(x, residual)


@torch.library.custom_op("anyany_kernels::rms_norm_backward", mutates_args=())
def _norm_backward(
    slope: Tensor, through: Tensor | None, x: Tensor, weight: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    rows, sizes, slope, x = inverse.numel(), tile(x.shape[-1]), slope.contiguous(), x.contiguous()
    to_x, tiles = x.new_empty(x.shape), triton.cdiv(rows, sizes["ROWS"])
    programs = min(tiles, 4 * processors(x.device))
    to_weight = x.new_empty(programs, x.shape[-1], dtype=torch.float32)
    if rows:
        with on(x.device):
            norm_backward[(programs,)](
                slope, slope if through is None else through.contiguous(), x, weight.contiguous(), inverse, to_x,
                to_weight, rows, tiles, ADDS=through is not None, **sizes,
            )  # fmt: skip
    return to_x, to_weight.sum(0).to(weight.dtype)


@_norm_backward.register_fake
def _(
    slope: Tensor, through: Tensor | None, x: Tensor, weight: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, residual, weight, _ = inputs
    ctx.adds = residual is not None
    ctx.save_for_backward(output[1] if ctx.adds else x, weight, output[2])


def _differentiate(ctx: Any, slope: Tensor, through: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, inverse = ctx.saved_tensors
    to_x, to_weight = _norm_backward(slope, through if ctx.adds else None, x, weight, inverse)
    return to_x, to_x if ctx.adds else None, to_weight, None


_norm.register_autograd(_differentiate, setup_context=_keep)
