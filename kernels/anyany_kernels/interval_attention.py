"""``interval_attention`` in Triton: attention where each row sees at most two ranges of keys.

Registered as operators of ``torch.library`` with shapes and gradients of their own, so that ``torch.compile`` passes
them through. The intervals are those of the core: whoever builds them checks that they lie in ``[0, S]``, do not run
backwards and share no key, because a check on a GPU would make every layer wait.

Shapes: T rows, S keys, H query heads, Hkv key heads, Dh head width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from anyany_kernels.attention_backward import backward
from anyany_kernels.attention_decode import decode
from anyany_kernels.attention_forward import forward
from anyany_kernels.attention_table import WIDEST, padded
from anyany_kernels.checks import FLOATS, check_floats, check_place, check_shape
from anyany_kernels.device import on
from anyany_kernels.errors import KernelTypeError, KernelValueError

NAME = "interval_attention"
FEW = 64
"""Rows up to which, without gradients, the keys of each row are split between programs."""
LARGEST_GROUP = 16
"""Query heads of a key head; the smallest row tile holds one row of so many."""


def interval_attention(
    q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, *, scale: float | None = None, cap: float | None = None
) -> Tensor:
    """Attention where each row sees at most two half-open key ranges.

    Args:
        q: ``(T, H, Dh)`` queries in float16, bfloat16 or float32; Dh is 256 at most.
        k: ``(S, Hkv, Dh)`` keys; Hkv divides H, and H / Hkv is 16 at most.
        v: ``(S, Hkv, Dh)`` values.
        intervals: ``(T, 2, 2)`` int32 ``[[prefix_lo, prefix_hi], [own_lo, own_hi]]``, indices into S.
        scale: Of the scores; ``None`` is ``1 / sqrt(Dh)``.
        cap: Scores become ``cap * tanh(score / cap)``; ``None`` leaves them.

    Returns:
        ``(T, H, Dh)``; a row that sees no key gives zeros.

    Raises:
        KernelTypeError: Wrong or mixed dtypes or devices.
        KernelValueError: Shapes that do not fit, a last axis with steps, 2**31 elements and more.
        KernelUnavailableError: No kernel runs on the device.
    """
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    learns = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if len(q) <= FEW and not learns:
        return _decode(q, k, v, intervals, scale, cap)
    return _forward(q, k, v, intervals, scale, cap)[0]


def fits(q: Tensor, k: Tensor) -> bool:
    """Whether the kernel holds such queries and keys: their dtype, head width, and query heads for each key head."""
    return q.dtype in FLOATS and q.shape[2] <= WIDEST and q.shape[1] <= LARGEST_GROUP * k.shape[1]


def _check(q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, cap: float | None) -> Tensor:
    """The intervals, dense."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dim() != 3:
            raise KernelValueError(f"{NAME}: expected {name} with three axes, got shape {tuple(x.shape)}")
    check_floats(NAME, q=q, k=k, v=v)
    check_place(NAME, q=q, intervals=intervals)
    check_shape(NAME, "v", v, *k.shape)
    check_shape(NAME, "intervals", intervals, len(q), 2, 2)
    if intervals.dtype != torch.int32:
        raise KernelTypeError(f"{NAME}: expected intervals in int32, got {intervals.dtype}; cast them")
    heads, kv_heads = q.shape[1], k.shape[1]
    if kv_heads == 0 or heads % kv_heads or heads // kv_heads > LARGEST_GROUP or heads == 0:
        raise KernelValueError(f"{NAME}: expected 1 to {LARGEST_GROUP} query heads for each key head, "
                               f"got {heads} for {kv_heads}")  # fmt: skip
    if q.shape[2] != k.shape[2]:
        raise KernelValueError(f"{NAME}: queries have head width {q.shape[2]}, keys {k.shape[2]}")
    padded(q.shape[2])
    if cap is not None and not 0 < cap < math.inf:
        raise KernelValueError(f"{NAME}: expected a positive cap, got {cap}")
    return intervals.contiguous()


@torch.library.custom_op("anyany_kernels::interval_attention", mutates_args=())
def _forward(
    q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, scale: float, cap: float | None
) -> tuple[Tensor, Tensor]:
    intervals = _check(q, k, v, intervals, cap)
    with on(q.device):
        return forward(q, k, v, intervals, scale, cap)


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, scale: float, cap: float | None) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)


@torch.library.custom_op("anyany_kernels::interval_attention_backward", mutates_args=())
def _backward(
    slope: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, intervals: Tensor,
    scale: float, cap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    intervals = _check(q, k, v, intervals, cap)
    with on(q.device):
        return backward(slope.contiguous(), q, k, v, out, lse, intervals, scale, cap)


@_backward.register_fake
def _(
    slope: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, intervals: Tensor,
    scale: float, cap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


@torch.library.custom_op("anyany_kernels::interval_attention_decode", mutates_args=())
def _decode(q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, scale: float, cap: float | None) -> Tensor:
    intervals = _check(q, k, v, intervals, cap)
    with on(q.device):
        return decode(q, k, v, intervals, scale, cap)


@_decode.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, scale: float, cap: float | None) -> Tensor:
    return q.new_empty(q.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, intervals, ctx.scale, ctx.cap = inputs
    ctx.save_for_backward(q, k, v, intervals, *output)


def _differentiate(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    """The log-sum-exp leaves no public function, so that nothing has a gradient in it."""
    q, k, v, intervals, out, lse = ctx.saved_tensors
    return *_backward(slope, q, k, v, out, lse, intervals, ctx.scale, ctx.cap), None, None, None


_forward.register_autograd(_differentiate, setup_context=_keep)
