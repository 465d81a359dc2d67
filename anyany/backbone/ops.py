"""``interval_attention``: the one attention primitive, and the choice of its implementation.

On a GPU it is the Triton kernel of ``anyany-kernels``, where that is installed and can run. Everywhere else, and for
what the kernel does not hold, it is made of PyTorch's operations. ``ANYANY_ATTENTION=triton`` asks for the kernel, and
is an error where it cannot run; ``ANYANY_ATTENTION=torch`` leaves it out.

Shapes: T query rows, S keys, H query heads, Hkv key heads, Dh head width.
"""

from __future__ import annotations

import math
import os
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from anyany.backbone.cpu_attention import Tiles, tiled_attention
from anyany.errors import KernelError

VARIABLE = "ANYANY_ATTENTION"


@cache
def attention_kernel(device: str) -> tuple[ModuleType | None, str]:
    """The module of the fused kernel for tensors on a kind of device, or ``None``; and why. Chosen once.

    Raises:
        KernelError: The kernel was asked for and cannot run, or the variable holds another word.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", "torch", "triton"):
        raise KernelError(f"{VARIABLE}: expected 'triton' or 'torch', got {asked!r}")
    if asked == "torch":
        return None, f"{VARIABLE}=torch: PyTorch's own operations are used"
    if device != "cuda" and not asked:
        return None, f"PyTorch's own operations are used on a {device.upper()}"
    try:
        from anyany_kernels import interval_attention
        from anyany_kernels.device import architecture

        return interval_attention, f"attention runs in Triton, with the tiles of {architecture(torch.device(device))}"
    except (ImportError, RuntimeError) as error:  # a package is missing, or the device is too old
        if asked:
            raise KernelError(f"{VARIABLE}=triton: the kernel cannot run: {error}; unset the variable") from error
        return None, f"PyTorch's own operations are used: {error}"


def plan_attention(intervals: Tensor) -> Tiles | None:
    """What an implementation needs of the intervals; made once per pass and shared by all layers."""
    return Tiles.of(intervals) if attention_kernel(intervals.device.type)[0] is None else None


def interval_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    intervals: Tensor,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    plan: Tiles | None = None,
) -> Tensor:
    """Attention where each row sees at most two half-open key ranges.

    Args:
        q: ``(T, H, Dh)`` queries, packed.
        k: ``(S, Hkv, Dh)`` keys: the packed rows themselves in training, the cache pool in inference.
        v: ``(S, Hkv, Dh)`` values.
        intervals: ``(T, 2, 2)`` int32 ``[[prefix_lo, prefix_hi], [own_lo, own_hi]]``, indices into S;
            the ranges of a row share no key (``sequence.check_intervals``).
        scale: Of the scores; ``None`` is ``1 / sqrt(Dh)``.
        softcap: Scores s become ``softcap * tanh(s / softcap)`` (Gemma 2, arXiv 2408.00118); ``None`` leaves them.
        plan: ``plan_attention(intervals)``, where the caller has it.

    Returns:
        ``(T, H, Dh)``; a row that sees no key gives zeros.
    """
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    kernel, _ = attention_kernel(q.device.type)
    if kernel is not None and kernel.fits(q, k):
        out: Tensor = kernel.interval_attention(q, k, v, intervals, scale=scale, cap=softcap)
        return out
    if kernel is not None and os.environ.get(VARIABLE) == "triton":
        shape = f"{q.shape[1]} query heads and {k.shape[1]} key heads of {q.shape[2]} numbers in {q.dtype}"
        raise KernelError(f"{VARIABLE}=triton: the kernel does not hold {shape}; unset the variable")
    return tiled_attention(q, k, v, plan or Tiles.of(intervals), scale, softcap)
