"""Interval attention as one dense (T, S) softmax: slow, obvious, any float type."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def visible(intervals: Tensor, keys: int) -> Tensor:
    """``(T, S)`` bool: row t sees key s."""
    at = torch.arange(keys, device=intervals.device)
    return ((at >= intervals[:, :, :1]) & (at < intervals[:, :, 1:])).any(dim=1)


def interval_attention(
    q: Tensor, k: Tensor, v: Tensor, intervals: Tensor, *, scale: float | None = None, softcap: float | None = None
) -> Tensor:
    """The signature of ``anyany.backbone.interval_attention``; ``(T, H, Dh)`` -> ``(T, H, Dh)``."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    mask = visible(intervals, len(k))  # (T, S)
    seen = mask.any(dim=0)[:, None, None]
    group = q.shape[1] // k.shape[1]
    # Keys that no row sees may hold anything, NaN included; zero times NaN would be NaN.
    k, v = (x.where(seen, 0).repeat_interleave(group, dim=1) for x in (k, v))  # (S, H, Dh)
    scores = torch.einsum("thd,shd->ths", q, k) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask[:, None], -math.inf)
    weights = scores.softmax(dim=-1).where(mask.any(dim=1)[:, None, None], 0)  # a row that sees no key gives zeros
    return torch.einsum("ths,shd->thd", weights, v)
