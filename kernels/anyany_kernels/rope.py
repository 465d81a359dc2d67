"""Rotary positions (Su et al. 2021, arXiv 2104.09864), half-split as in Llama, from tables of cosines and sines.

The tables hold one angle per row and frequency. So coordinates of one axis and of several, and scaled frequencies,
are the same to the kernel. The backward pass is a turn the other way.

Shapes: T rows, H heads, Dh head width; h padded half of it, B heads of a tile.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from anyany_kernels.checks import check_floats, check_place, check_shape
from anyany_kernels.device import on
from anyany_kernels.errors import KernelTypeError, KernelValueError

TILE = 2048
"""Pairs of a tile."""


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn ``(T, H, Dh)`` by the angles of each row.

    Args:
        x: ``(T, H, Dh)`` in float16, bfloat16 or float32; Dh is even.
        cos: ``(T, 1, Dh / 2)`` in float32; no gradient goes into the tables.
        sin: The same of the sines.

    Raises:
        KernelTypeError: Wrong or mixed dtypes or devices.
        KernelValueError: Shapes that do not fit, a last axis with steps, 2**31 elements and more.
        KernelUnavailableError: No kernel runs on the device.
    """
    return _turn(x, cos, sin, 1.0)


@triton.jit
def turn(
    x, cos, sin, out, x_row, x_head, direction,
    HEADS: tl.constexpr, HALF: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Some heads of one row, ``direction`` times the angles (1 or -1)."""
    row = tl.program_id(0)
    head = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = tl.arange(0, PADDED)
    half = column < HALF
    mask = (head[:, None] < HEADS) & half[None, :]
    at = row * x_row + head[:, None] * x_head + column[None, :]
    a = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(x + at + HALF, mask=mask, other=0.0).to(tl.float32)
    c = tl.load(cos + row * HALF + column, mask=half, other=0.0)[None, :]
    s = tl.load(sin + row * HALF + column, mask=half, other=0.0)[None, :] * direction
    to = (row * HEADS + head[:, None]) * (2 * HALF) + column[None, :]
    tl.store(out + to, (a * c - b * s).to(out.dtype.element_ty), mask=mask)
    tl.store(out + to + HALF, (b * c + a * s).to(out.dtype.element_ty), mask=mask)


def tile(heads: int, width: int) -> dict[str, int]:
    """Compile-time sizes."""
    half = triton.next_power_of_2(width // 2)
    block = min(triton.next_power_of_2(heads), max(1, TILE // half))
    return {"HEADS": heads, "HALF": width // 2, "PADDED": half, "BLOCK": block, "num_warps": 4}


@torch.library.custom_op("anyany_kernels::rope", mutates_args=())
def _turn(x: Tensor, cos: Tensor, sin: Tensor, direction: float) -> Tensor:
    if x.dim() != 3 or x.shape[2] % 2 or x.shape[2] == 0:
        raise KernelValueError(f"rope: expected x of shape (T, H, Dh) with an even Dh, got {tuple(x.shape)}")
    check_floats("rope", x=x)
    check_place("rope", x=x, cos=cos, sin=sin)
    for name, table in (("cos", cos), ("sin", sin)):
        check_shape("rope", name, table, len(x), 1, x.shape[2] // 2)
        if table.dtype != torch.float32:
            raise KernelTypeError(f"rope: expected {name} in float32, got {table.dtype}; angles need its precision")
    out = x.new_empty(x.shape)
    if out.numel():
        sizes = tile(*x.shape[1:])
        with on(x.device):
            turn[len(x), triton.cdiv(x.shape[1], sizes["BLOCK"])](
                x, cos.contiguous(), sin.contiguous(), out, *x.stride()[:2], direction, **sizes
            )
    return out


@_turn.register_fake
def _(x: Tensor, cos: Tensor, sin: Tensor, direction: float) -> Tensor:
    return x.new_empty(x.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, cos, sin, ctx.direction = inputs
    ctx.save_for_backward(cos, sin)


def _differentiate(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
    return _turn(slope.contiguous(), *ctx.saved_tensors, -ctx.direction), None, None, None


_turn.register_autograd(_differentiate, setup_context=_keep)
