"""``interval_attention``: the one attention primitive, and the choice of its implementation.

Shapes: T query rows, S keys, H query heads, Hkv key heads, Dh head width.
"""

from __future__ import annotations

import math

from torch import Tensor

from anyany.backbone.cpu_attention import Tiles, tiled_attention


def plan_attention(intervals: Tensor) -> Tiles:
    """What an implementation needs of the intervals; made once per pass and shared by all layers."""
    return Tiles.of(intervals)


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
    return tiled_attention(q, k, v, plan or Tiles.of(intervals), scale, softcap)
