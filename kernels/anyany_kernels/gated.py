"""The middle of gated feed-forwards (Shazeer 2020, arXiv 2002.05202): SwiGLU and GeGLU of one matrix for gate and up.

Shapes: n rows, F hidden width.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from anyany_kernels.checks import check_floats
from anyany_kernels.device import on
from anyany_kernels.errors import KernelValueError

BLOCK = 1024
"""Elements of a row that a program takes."""
INVERSE_SQRT2 = tl.constexpr(0.7071067811865476)
INVERSE_SQRT2PI = tl.constexpr(0.3989422804014327)
SQRT_2_OVER_PI = tl.constexpr(0.7978845608028654)


def swiglu(gate_up: Tensor) -> Tensor:
    """``silu(gate) * up``, taken in float32.

    Args:
        gate_up: ``(..., 2 F)`` in float16, bfloat16 or float32: the gate, and up behind it.

    Returns:
        ``(..., F)`` in the same dtype.

    Raises:
        KernelTypeError: Another dtype.
        KernelValueError: An odd width, 2**31 elements and more.
        KernelUnavailableError: No kernel runs on the device.
    """
    return _gate(gate_up, "silu")


def geglu(gate_up: Tensor, approximate: str = "none") -> Tensor:
    """``gelu(gate) * up``; ``approximate="tanh"`` is the form of GPT-2 and Gemma. Otherwise as :func:`swiglu`."""
    if approximate not in ("none", "tanh"):
        raise KernelValueError(f"geglu: expected approximate to be 'none' or 'tanh', got {approximate!r}")
    return _gate(gate_up, "gelu" if approximate == "none" else "gelu_tanh")


@triton.jit
def activation(x, FORM: tl.constexpr):
    """The activation and its slope."""
    if FORM == "silu":
        gate = tl.sigmoid(x)
        return x * gate, gate * (1.0 + x * (1.0 - gate))
    if FORM == "gelu":
        below = 0.5 * (1.0 + tl.erf(x * INVERSE_SQRT2))
        return x * below, below + x * tl.exp(-0.5 * x * x) * INVERSE_SQRT2PI
    inner = SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)
    gate = tl.sigmoid(2.0 * inner)  # (1 + tanh(inner)) / 2
    rise = SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * x * x)
    return x * gate, gate + 2.0 * x * gate * (1.0 - gate) * rise


@triton.jit
def gate_forward(gate_up, out, width, FORM: tl.constexpr, BLOCK: tl.constexpr):
    """A stretch of one row."""
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < width
    at = gate_up + row * 2 * width + column
    gate = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(at + width, mask=mask, other=0.0).to(tl.float32)
    opened, _ = activation(gate, FORM)
    tl.store(out + row * width + column, (opened * up).to(out.dtype.element_ty), mask=mask)


@triton.jit
def gate_backward(slope, gate_up, to_gate_up, width, FORM: tl.constexpr, BLOCK: tl.constexpr):
    """The gradient of a stretch of one row."""
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < width
    at = row * 2 * width + column
    gate = tl.load(gate_up + at, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gate_up + at + width, mask=mask, other=0.0).to(tl.float32)
    g = tl.load(slope + row * width + column, mask=mask, other=0.0).to(tl.float32)
    opened, rise = activation(gate, FORM)
    tl.store(to_gate_up + at, (g * up * rise).to(to_gate_up.dtype.element_ty), mask=mask)
    tl.store(to_gate_up + at + width, (g * opened).to(to_gate_up.dtype.element_ty), mask=mask)


@torch.library.custom_op("anyany_kernels::gated", mutates_args=())
def _gate(gate_up: Tensor, form: str) -> Tensor:
    if gate_up.dim() == 0 or gate_up.shape[-1] % 2:
        raise KernelValueError(f"gated: expected gate and up side by side, got shape {tuple(gate_up.shape)}")
    gate_up = gate_up.contiguous()
    check_floats("gated", gate_up=gate_up)
    out = _empty(gate_up)
    if out.numel():
        width = out.shape[-1]
        with on(out.device):
            gate_forward[out.numel() // width, triton.cdiv(width, BLOCK)](gate_up, out, width, FORM=form, BLOCK=BLOCK)
    return out


def _empty(gate_up: Tensor) -> Tensor:
    return gate_up.new_empty(*gate_up.shape[:-1], gate_up.shape[-1] // 2)


@_gate.register_fake
def _(gate_up: Tensor, form: str) -> Tensor:
    return _empty(gate_up)


@torch.library.custom_op("anyany_kernels::gated_backward", mutates_args=())
def _gate_backward(slope: Tensor, gate_up: Tensor, form: str) -> Tensor:
    slope, gate_up = slope.contiguous(), gate_up.contiguous()
    to_gate_up, width = gate_up.new_empty(gate_up.shape), slope.shape[-1]
    if slope.numel():
        with on(slope.device):
            gate_backward[slope.numel() // width, triton.cdiv(width, BLOCK)](
                slope, gate_up, to_gate_up, width, FORM=form, BLOCK=BLOCK
            )
    return to_gate_up


@_gate_backward.register_fake
def _(slope: Tensor, gate_up: Tensor, form: str) -> Tensor:
    return gate_up.new_empty(gate_up.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    gate_up, ctx.form = inputs
    ctx.save_for_backward(gate_up)


def _differentiate(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
    return _gate_backward(slope, *ctx.saved_tensors, ctx.form), None


_gate.register_autograd(_differentiate, setup_context=_keep)
