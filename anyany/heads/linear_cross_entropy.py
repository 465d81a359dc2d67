"""Cross-entropy of a linear layer whose logits are never in memory all at once.

Rows pass in chunks. Where gradients are wanted, those of a chunk are taken while its logits are there, so that the
backward pass only scales what the forward pass has summed up (the idea of Liger Kernel, arXiv 2410.10989; and of
Cut Your Losses, arXiv 2411.09009). The layer may consist of several matrices, one behind the other; they are not
copied into one.

Shapes: n rows, D width, V outputs of all matrices together, c rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LOGITS = 2**18
"""Logits of a chunk (1 MiB in float32), so that passes over them stay in the cache of a core."""
FEWEST = 128
"""Rows of a chunk at least: each chunk adds to a gradient ``(V, D)``, which costs too much for fewer."""


def linear_cross_entropy(
    hidden: Tensor, matrices: Sequence[Tensor], targets: Tensor, weights: Tensor | None = None, softcap: float = 0.0
) -> Tensor:
    """Sum over rows of ``weight * (logsumexp(logits) - logits[target])``, in nats.

    Args:
        hidden: ``(n, D)``.
        matrices: ``(V_i, D)`` each; the logits of the second stand behind those of the first.
        targets: ``(n,)`` whole numbers below V.
        weights: ``(n,)``; ``None`` is 1.
        softcap: Logits z become ``softcap * tanh(z / softcap)`` first; 0 leaves them.

    Returns:
        A number, in float32 or the wider type of ``hidden``. Products are taken in the type of autocast where that
        is on; exponentials and all sums over rows are in float32 or wider.
    """
    if weights is None:
        weights = torch.ones(len(hidden), device=hidden.device)
    if not torch.is_grad_enabled():  # a function sees which inputs are trained, not whether anybody asks
        hidden, weights, matrices = hidden.detach(), weights.detach(), [matrix.detach() for matrix in matrices]
    return _LinearCrossEntropy.apply(hidden, targets, weights, softcap, *matrices)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, targets: Tensor, weights: Tensor, softcap: float, *matrices: Tensor
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        narrow = _product_type(hidden)
        cast = [matrix.to(narrow) for matrix in matrices]
        wanted = [ctx.needs_input_grad[0], *ctx.needs_input_grad[4:]]
        each = hidden.new_empty(len(hidden), dtype=wide)
        to_hidden = torch.empty_like(hidden) if wanted[0] else None
        to_matrices = [torch.zeros_like(m, dtype=wide) if w else None
                       for m, w in zip(matrices, wanted[1:], strict=True)]  # fmt: skip
        size = max(FEWEST, LOGITS // sum(map(len, matrices)))
        for start in range(0, len(hidden), size):
            rows = slice(start, start + size)
            x = hidden[rows].to(narrow)  # (c, D)
            logits = _logits(x, cast, wide)  # (c, V)
            bent = _cap(logits, softcap) if softcap else None
            each[rows], sums = _losses(logits, targets[rows])
            if any(wanted):
                slope = _slopes(logits, sums, targets[rows], weights[rows])
                slope = (slope if bent is None else slope.mul_(bent)).to(narrow)
                _add_gradients(slope, x, cast, None if to_hidden is None else to_hidden[rows], to_matrices)
        ctx.save_for_backward(each if ctx.needs_input_grad[2] else None, to_hidden, *to_matrices)
        ctx.types = [hidden.dtype, *(m.dtype for m in matrices)]
        return (each * weights).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        each, *summed = ctx.saved_tensors
        scaled = [None if s is None else (s * gradient).to(kind) for s, kind in zip(summed, ctx.types, strict=True)]
        return scaled[0], None, None if each is None else each * gradient, None, *scaled[1:]


def _product_type(hidden: Tensor) -> torch.dtype:
    """The type in which a linear layer would multiply."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _logits(x: Tensor, matrices: Sequence[Tensor], wide: torch.dtype) -> Tensor:
    """``(c, D)`` -> ``(c, V)`` in one buffer."""
    ends = [0]
    for matrix in matrices:
        ends.append(ends[-1] + len(matrix))
    logits = x.new_empty(len(x), ends[-1])
    for matrix, start, end in zip(matrices, ends, ends[1:], strict=False):
        torch.mm(x, matrix.mT, out=logits[:, start:end])
    return logits.to(wide)


def _cap(logits: Tensor, softcap: float) -> Tensor:
    """Cap logits in place; returns the slope of each ``(c, V)``."""
    shares = logits.div_(softcap).tanh_()
    slopes = 1 - shares.square()
    logits.mul_(softcap)
    return slopes


def _losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses ``(c,)``, and sums ``(c,)`` of what the logits become in place: exponentials, 1 at most."""
    picked = logits.gather(1, targets[:, None])[:, 0]  # (c,)
    top = logits.amax(dim=1)
    sums = logits.sub_(top[:, None]).exp_().sum(dim=1)
    return sums.log() + top - picked, sums


def _slopes(exponentials: Tensor, sums: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Gradient of the weighted sum in the logits ``(c, V)``, in place: weight * (probability - hit)."""
    slopes = exponentials.mul_((weights / sums)[:, None])
    return slopes.scatter_add_(1, targets[:, None], -weights.to(slopes)[:, None])


def _add_gradients(
    slope: Tensor, x: Tensor, matrices: Sequence[Tensor], to_x: Tensor | None, to_matrices: Sequence[Tensor | None]
) -> None:
    """Write the gradient of a chunk's rows, and add what it gives to those of the matrices."""
    parts = slope.split([len(matrix) for matrix in matrices], dim=1)
    if to_x is not None:
        products = (part @ matrix for part, matrix in zip(parts, matrices, strict=True))
        to_x.copy_(sum(products))
    for part, total in zip(parts, to_matrices, strict=True):
        if total is not None and total.dtype == x.dtype:
            total.addmm_(part.mT, x)
        elif total is not None:
            total.add_(part.mT @ x)
