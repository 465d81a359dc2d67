"""Interval attention in plain PyTorch: tiles of rows over contiguous slices of keys. Differentiable.

Rows are grouped into tiles whose key ranges lie close together. A tile is one call of
``scaled_dot_product_attention`` over the hull of its ranges, masked only where rows differ. Nothing of
size (T, S) is made; the largest mask is one tile's.

Shapes: T query rows, n rows and m keys of a tile, S keys, H and Hkv heads, G = H / Hkv, Dh head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 256
SLACK = 16384
"""Scores that a tile may waste before one more call is cheaper."""


@dataclass(frozen=True)
class Tile:
    """Rows ``[start, stop)`` and the hulls of their two ranges; ``mask`` is ``(n, m)`` or ``None``.

    ``keys`` lists the keys of the hulls that some row sees, where there are others between them: those
    may never have been written, and a weight of zero does not silence NaN.
    """

    start: int
    stop: int
    prefix: tuple[int, int]
    own: tuple[int, int]
    mask: Tensor | None
    keys: Tensor | None = None


@dataclass(frozen=True)
class Tiles:
    """All tiles of a pass. ``rows`` lists the rows that see a key, or is ``None`` when all do."""

    count: int
    tiles: tuple[Tile, ...]
    rows: Tensor | None

    @classmethod
    def of(cls, intervals: Tensor) -> Tiles:
        """Group the rows of ``intervals (T, 2, 2)``."""
        if len(intervals) == 1:
            (prefix, own) = intervals[0].tolist()
            if own[1] > own[0] or prefix[1] > prefix[0]:
                return cls(1, (Tile(0, 1, tuple(prefix), tuple(own), None),), None)
        spans = intervals.cpu().numpy().astype(np.int64)
        sees = (spans[:, :, 1] > spans[:, :, 0]).any(axis=1)
        rows = None if sees.all() else torch.from_numpy(np.flatnonzero(sees))
        kept = spans if rows is None else spans[sees]
        return cls(len(spans), tuple(_tiles(kept, intervals.device)), rows)


def _tiles(spans: np.ndarray, device: torch.device) -> list[Tile]:
    """Greedy: a row joins the tile before it while little is wasted by that."""
    tiles: list[Tile] = []
    lengths = (spans[:, :, 1] - spans[:, :, 0]).sum(axis=1).tolist()
    plain = spans.tolist()
    start = 0
    while start < len(plain):
        hulls = [(0, 0), (0, 0)]
        useful, stop = 0, start
        while stop < len(plain) and stop - start < TILE:
            wider = [_hull(hulls[kind], plain[stop][kind]) for kind in (0, 1)]
            keys = sum(high - low for low, high in wider)
            useful += lengths[stop]
            if stop > start and (stop - start + 1) * keys > 2 * useful + SLACK:
                break
            hulls = wider
            stop += 1
        tiles.append(_tile(start, stop, hulls, spans[start:stop], device))
        start = stop
    return tiles


def _hull(a: tuple[int, int], b: list[int]) -> tuple[int, int]:
    if b[1] <= b[0]:
        return a
    return (b[0], b[1]) if a[1] <= a[0] else (min(a[0], b[0]), max(a[1], b[1]))


def _tile(start: int, stop: int, hulls: list[tuple[int, int]], spans: np.ndarray, device: torch.device) -> Tile:
    visible = []
    for kind, (low, high) in enumerate(hulls):
        keys = np.arange(low, high)
        visible.append((keys >= spans[:, kind, :1]) & (keys < spans[:, kind, 1:]))
    mask = np.concatenate(visible, axis=1)  # (n, m)
    seen, keys = mask.any(axis=0), None
    if not seen.all():
        every = np.concatenate([np.arange(*hull) for hull in hulls])
        keys, mask = torch.from_numpy(every[seen]).to(device), mask[:, seen]
    return Tile(start, stop, *hulls, None if mask.all() else torch.from_numpy(mask).to(device), keys)


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, plan: Tiles, scale: float) -> Tensor:
    """``(T, H, Dh)`` queries over ``(S, Hkv, Dh)`` keys and values."""
    seeing = q if plan.rows is None else q[plan.rows]
    outs = [_attend(seeing[t.start : t.stop], _keys(k, t), _keys(v, t), t.mask, scale) for t in plan.tiles]
    if not outs:
        return torch.zeros_like(q)
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    if plan.rows is None:
        return out
    return torch.zeros_like(q).index_copy(0, plan.rows.to(q.device), out)


def _keys(x: Tensor, tile: Tile) -> Tensor:
    """Keys or values that the tile's rows may see, ``(m, Hkv, Dh)``."""
    if tile.keys is not None:
        return x[tile.keys]
    (a, b), (c, d) = tile.prefix, tile.own
    if b <= a:
        return x[c:d]
    return x[a:b] if d <= c else torch.cat([x[a:b], x[c:d]])


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """One tile. Query heads that share a key head become rows of it, so that keys are never repeated."""
    n, heads, width = q.shape
    group = heads // k.shape[1]
    if group > 1:
        q = q.view(n, -1, group, width).transpose(0, 1).reshape(-1, n * group, width)  # (Hkv, n G, Dh)
        mask = None if mask is None else mask.repeat_interleave(group, dim=0)
    else:
        q = q.transpose(0, 1)
    out = F.scaled_dot_product_attention(
        q[None], k.transpose(0, 1)[None], v.transpose(0, 1)[None], attn_mask=mask, scale=scale
    )[0]
    if group > 1:
        return out.view(-1, n, group, width).transpose(0, 1).reshape(n, heads, width)
    return out.transpose(0, 1)
