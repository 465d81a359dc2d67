"""Cross-entropy of a linear layer in chunks of rows: the logits of all rows are never in memory together.

Products are those of PyTorch. Between them one kernel makes of a chunk's logits the losses and, in place, their
slopes. With gradients, these are taken while a chunk's logits are there, and the backward pass only scales what was
summed up (Liger Kernel, arXiv 2410.10989; Cut Your Losses, arXiv 2411.09009); without, logits are only read.

Shapes: n rows, D width, V outputs of all matrices together, c rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from anyany_kernels.checks import check_floats, check_place, check_shape
from anyany_kernels.device import on
from anyany_kernels.errors import KernelTypeError, KernelValueError

NAME = "linear_cross_entropy"
FEWEST = 128
"""Rows of a chunk at least: fewer leave the products too small, and each chunk adds to a gradient ``(V, D)``."""


def linear_cross_entropy(
    hidden: Tensor, matrices: Sequence[Tensor], targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Sum over rows of ``weight * (logsumexp(logits) - logits[target])``, in nats and float32.

    Args:
        hidden: ``(n, D)`` in float16, bfloat16 or float32.
        matrices: ``(V_i, D)`` each, in that dtype; the logits of the second stand behind those of the first.
        targets: ``(n,)`` int64 below V; a row with another target makes the sum NaN.
        weights: ``(n,)`` in float32; ``None`` is 1.

    Raises:
        KernelTypeError: Wrong or mixed dtypes or devices.
        KernelValueError: Shapes that do not fit, a last axis with steps, 2**31 elements and more.
        KernelUnavailableError: No kernel runs on the device.
    """
    if weights is None:
        weights = torch.ones(len(hidden), device=hidden.device)
    asked = torch.is_grad_enabled()
    to_hidden = asked and hidden.requires_grad
    to_matrices = asked and any(matrix.requires_grad for matrix in matrices)
    return _loss(hidden, list(matrices), targets, weights, to_hidden, to_matrices)[0]


@triton.jit
def row_losses(logits, targets, weights, losses, outputs, stride, SLOPES: tl.constexpr, BLOCK: tl.constexpr):
    """One row of logits: its loss; with ``SLOPES`` the logits become ``weight * (probability - hit)``."""
    row = tl.program_id(0)
    logits += row * stride
    top = -float("inf")
    total = 0.0
    for start in tl.range(0, outputs, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(logits + column, mask=column < outputs, other=-float("inf")).to(tl.float32)
        highest = tl.maximum(top, tl.max(x, axis=0))
        total = total * tl.exp(top - highest) + tl.sum(tl.exp(x - highest), axis=0)
        top = highest
    target = tl.load(targets + row)
    hit = tl.load(logits + target, mask=(target >= 0) & (target < outputs), other=float("nan")).to(tl.float32)
    tl.store(losses + row, tl.log(total) + top - hit)
    if SLOPES:
        weight = tl.load(weights + row)
        for start in tl.range(0, outputs, BLOCK):
            column = start + tl.arange(0, BLOCK)
            x = tl.load(logits + column, mask=column < outputs, other=-float("inf")).to(tl.float32)
            slope = weight * (tl.exp(x - top) / total - (column == target).to(tl.float32))
            tl.store(logits + column, slope.to(logits.dtype.element_ty), mask=column < outputs)


@torch.library.custom_op("anyany_kernels::linear_cross_entropy", mutates_args=())
def _loss(
    hidden: Tensor, matrices: Sequence[Tensor], targets: Tensor, weights: Tensor, to_hidden: bool, to_matrices: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sum, the losses ``(n,)``, and the gradients ``(n, D)`` and ``(V, D)`` that are asked for, else empty."""
    _check(hidden, matrices, targets, weights)
    targets, weights = targets.contiguous(), weights.contiguous()
    outputs = sum(map(len, matrices))
    total, losses, hidden_slope, matrix_slope = _empty(hidden, outputs, to_hidden, to_matrices)
    matrix_slope.zero_()
    size = max(FEWEST, triton.cdiv(hidden.numel(), outputs))  # a chunk's logits are as many as all hidden states
    size = triton.cdiv(size, 16) * 16  # so that all chunks are aligned alike
    buffer = hidden.new_empty(min(size, len(hidden)), outputs)
    ends = list(accumulate(map(len, matrices), initial=0))
    parts = list(zip(matrices, ends, ends[1:], strict=False))
    for start in range(0, len(hidden), size):
        x = hidden[start : start + size]  # (c, D)
        logits = buffer[: len(x)]
        for matrix, low, high in parts:
            torch.mm(x, matrix.mT, out=logits[:, low:high])
        with on(x.device):
            row_losses[(len(x),)](
                logits, targets[start:], weights[start:], losses[start:], outputs, outputs,
                SLOPES=to_hidden or to_matrices, BLOCK=min(4096, triton.next_power_of_2(outputs)), num_warps=8,
            )  # fmt: skip
        if to_hidden:
            hidden_slope[start : start + size] = sum(logits[:, low:high] @ matrix for matrix, low, high in parts)
        if to_matrices:
            matrix_slope += logits.mT @ x
    torch.sum(losses * weights, 0, out=total)
    return total, losses, hidden_slope, matrix_slope


def _check(hidden: Tensor, matrices: Sequence[Tensor], targets: Tensor, weights: Tensor) -> None:
    if hidden.dim() != 2 or not matrices or not sum(map(len, matrices)):
        raise KernelValueError(f"{NAME}: expected hidden states (n, D) and at least one output, got shape "
                               f"{tuple(hidden.shape)} and {len(matrices)} matrices")  # fmt: skip
    named = {f"matrices[{i}]": matrix for i, matrix in enumerate(matrices)}
    for name, matrix in named.items():
        check_shape(NAME, name, matrix, len(matrix), hidden.shape[1])
    check_shape(NAME, "targets", targets, len(hidden))
    check_shape(NAME, "weights", weights, len(hidden))
    check_floats(NAME, hidden=hidden, **named)
    check_place(NAME, hidden=hidden, targets=targets, weights=weights)
    if targets.dtype != torch.int64 or weights.dtype != torch.float32:
        raise KernelTypeError(f"{NAME}: expected targets in int64 and weights in float32, "
                              f"got {targets.dtype} and {weights.dtype}; cast them")  # fmt: skip


def _empty(hidden: Tensor, outputs: int, to_hidden: bool, to_matrices: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide = {"dtype": torch.float32}
    return (hidden.new_empty((), **wide), hidden.new_empty(len(hidden), **wide),
            hidden.new_empty(hidden.shape if to_hidden else 0),
            hidden.new_empty((outputs, hidden.shape[1]) if to_matrices else 0, **wide))  # fmt: skip


@_loss.register_fake
def _(
    hidden: Tensor, matrices: Sequence[Tensor], targets: Tensor, weights: Tensor, to_hidden: bool, to_matrices: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty(hidden, sum(len(matrix) for matrix in matrices), to_hidden, to_matrices)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    matrices = inputs[1]
    ctx.sizes, ctx.types = [len(matrix) for matrix in matrices], [inputs[0].dtype, *(m.dtype for m in matrices)]
    ctx.asked = inputs[4:]
    ctx.save_for_backward(*output[1:])


def _differentiate(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Any, ...]:
    """Only the sum leaves the public function."""
    losses, hidden_slope, matrix_slope = ctx.saved_tensors
    to_hidden, to_matrices = ctx.asked
    first = (hidden_slope * slope).to(ctx.types[0]) if to_hidden else None
    second = [None] * len(ctx.sizes)
    if to_matrices:
        second = [(part * slope).to(kind)
                  for part, kind in zip(matrix_slope.split(ctx.sizes), ctx.types[1:], strict=True)]  # fmt: skip
    return first, second, None, losses * slope, None, None


_loss.register_autograd(_differentiate, setup_context=_keep)
