"""Interval attention in plain PyTorch: tiles of rows over contiguous slices of keys. Differentiable.

Rows are grouped into tiles whose key ranges lie close together. A tile is one call of
``scaled_dot_product_attention`` over the hull of its ranges, masked only where rows differ. Nothing of
size (T, S) is made, forward or backward: small masks are kept, a large one lives as long as its tile.

Shapes: T query rows, n rows and m keys of a tile, S keys, H and Hkv heads, G = H / Hkv, Dh head width.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

TILE = 256
SLACK = 16384
"""Scores that a tile may waste before one more call is cheaper."""
KEPT = 2**18
"""Scores of a tile whose mask is kept for all layers and for the backward pass."""
LARGEST = 2**21
"""Scores of a tile: bounds the largest mask."""


@dataclass(frozen=True)
class Tile:
    """Rows ``[start, stop)``, the hulls of their two ranges, and the ranges ``(n, 2, 2)``.

    In a ``causal`` one, row i sees the first i + 1 keys: it has no mask, may be of any length, and what no row of it
    sees is not computed.
    """

    start: int
    stop: int
    prefix: tuple[int, int]
    own: tuple[int, int]
    ranges: np.ndarray
    device: torch.device
    large: bool = False
    causal: bool = False

    @cached_property
    def kept(self) -> Tensor | None:
        """The mask of a tile that is not ``large``, for all layers and the backward pass."""
        return None if self.large or self.causal else _mask(self)

    def mask(self) -> Tensor | None:
        """Which keys of the hulls each row sees, ``(n, m)`` bool; ``None`` where all rows see all."""
        return _mask(self) if self.large else self.kept


@dataclass(frozen=True)
class Tiles:
    """All tiles of a pass. ``rows`` lists the rows that see a key, or is ``None`` when all do."""

    count: int
    tiles: tuple[Tile, ...]
    rows: Tensor | None

    @classmethod
    def of(cls, intervals: Tensor) -> Tiles:
        """Group the rows of ``intervals (T, 2, 2)``."""
        spans = intervals.cpu().numpy().astype(np.int64)
        if len(spans) == 1:
            (prefix, own) = spans[0].tolist()
            if own[1] > own[0] or prefix[1] > prefix[0]:
                return cls(1, (Tile(0, 1, tuple(prefix), tuple(own), spans, intervals.device),), None)
        full = spans[:, :, 1] > spans[:, :, 0]
        sees = full[:, 0] | full[:, 1]
        rows = None if sees.all() else torch.from_numpy(np.flatnonzero(sees))
        kept = spans if rows is None else spans[sees]
        return cls(len(spans), tuple(_tiles(kept, intervals.device)), rows)


def _tiles(spans: np.ndarray, device: torch.device) -> Iterator[Tile]:
    """Long causal runs, and between them as many rows at a time as waste little."""
    runs, start = _causal_runs(spans), 0
    bounds, hulls = [*runs, len(spans)], _Hulls(spans)
    while start < len(spans):
        if start in runs:
            stop, large = runs[start], False
            prefix, own = (0, 0), (int(spans[start, 1, 0]), int(spans[stop - 1, 1, 1]))
        else:
            rows, scores, (prefix, own) = hulls.join(start, min(start + TILE, bounds[bisect(bounds, start)]))
            stop, large = start + rows, scores > KEPT
        yield Tile(start, stop, prefix, own, spans[start:stop], device, large, causal=start in runs)
        start = stop


class _Hulls:
    """How many rows one tile may hold: a row joins those before it while little is wasted by that.

    Args:
        spans: ``(T, 2, 2)``.
    """

    def __init__(self, spans: np.ndarray) -> None:
        self.edges = np.empty((4, len(spans)), np.int64)  # first keys of both ranges, then ends
        self.edges[:2], self.edges[2:] = spans[:, :, 0].T, spans[:, :, 1].T
        low, high = self.edges[:2], self.edges[2:]
        self.seen = np.zeros(len(spans) + 1, np.int64)
        np.cumsum((high - low).sum(0), out=self.seen[1:])
        empty = high <= low  # widens no hull
        low[empty], high[empty] = np.iinfo(np.int64).max, 0
        np.negative(high, out=high)  # so that the least of each is an edge of the hull
        self.count = np.arange(1, TILE + 1)

    def join(self, start: int, limit: int) -> tuple[int, int, list[tuple[int, int]]]:
        """Rows from ``start`` on, at most up to ``limit``: how many, their scores, and their two hulls."""
        edges = self.edges[:, start:limit]
        rows, hulls = limit - start, _hulls(*edges.min(1).tolist())
        scores = rows * sum(b - a for a, b in hulls)
        seen = self.seen[start : limit + 1]
        if scores <= min(2 * int(seen[-1] - seen[0]) + SLACK, LARGEST):
            return rows, scores, hulls
        edges = np.minimum.accumulate(edges, 1)
        each = np.maximum(-edges[2:] - edges[:2], 0).sum(0) * self.count[:rows]
        wasteful = each > np.minimum(2 * (seen[1:] - seen[0]) + SLACK, LARGEST)
        last = max(int(wasteful.argmax()) - 1, 0)
        return last + 1, int(each[last]), _hulls(*edges[:, last].tolist())


def _hulls(prefix: int, own: int, prefix_end: int, own_end: int) -> list[tuple[int, int]]:
    """Of the least edges: first keys, and ends, below 0."""
    return [(low, -end) if -end > low else (0, 0) for low, end in ((prefix, prefix_end), (own, own_end))]


def _causal_runs(spans: np.ndarray) -> dict[int, int]:
    """Where rows that see one key, two keys, and so on begin and end, if they are more than a tile holds."""
    low, high = spans[:, 1].T
    starts = np.flatnonzero(high == low + 1)
    starts = starts[starts + TILE < len(spans)]
    starts = starts[high[starts + TILE] == low[starts] + TILE + 1]  # else it ends before: most layouts have none
    if not len(starts):
        return {}
    goes_on = np.zeros(len(spans) + 1, bool)  # the last stands for the end
    goes_on[1:-1] = (low[1:] == low[:-1]) & (high[1:] == high[:-1] + 1)
    goes_on[:-1] &= spans[:, 0, 1] <= spans[:, 0, 0]
    ends = np.flatnonzero(~goes_on)
    stops = ends[np.searchsorted(ends, starts, side="right")]
    alone = spans[starts, 0, 1] <= spans[starts, 0, 0]
    return {int(a): int(b) for a, b, own in zip(starts, stops, alone, strict=True) if own and b - a > TILE}


def _mask(tile: Tile) -> Tensor | None:
    visible = []
    for kind, (low, high) in enumerate((tile.prefix, tile.own)):
        keys = np.arange(low, high)
        visible.append((keys >= tile.ranges[:, kind, :1]) & (keys < tile.ranges[:, kind, 1:]))
    mask = np.concatenate(visible, axis=1)  # (n, m)
    return None if mask.all() else torch.from_numpy(mask).to(tile.device)


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, plan: Tiles, scale: float, softcap: float | None = None) -> Tensor:
    """``(T, H, Dh)`` queries over ``(S, Hkv, Dh)`` keys and values."""
    seeing = q if plan.rows is None else q[plan.rows]
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    outs = []
    for tile in plan.tiles if softcap is None else _masked(plan.tiles):
        inputs = (seeing[tile.start : tile.stop], k, v, tile, scale, softcap)
        if learns and tile.large:  # autograd would keep the masks of all tiles: T * S numbers
            outs.append(checkpoint(_attend, *inputs, use_reentrant=False, preserve_rng_state=False))
        else:
            outs.append(_attend(*inputs))
    out = torch.cat(outs) if outs else seeing  # nobody sees a key: no row, which autograd still follows
    if plan.rows is None:
        return out
    return torch.zeros_like(q).index_copy(0, plan.rows.to(q.device), out)


def _masked(tiles: Iterable[Tile]) -> Iterator[Tile]:
    """The same rows without causal tiles: capped scores are in memory, so a long run passes in pieces."""
    for tile in tiles:
        if not tile.causal:
            yield tile
            continue
        for start in range(tile.start, tile.stop, TILE):
            stop = min(start + TILE, tile.stop)
            ranges = tile.ranges[start - tile.start : stop - tile.start]
            yield Tile(start, stop, (0, 0), (tile.own[0], int(ranges[-1, 1, 1])), ranges, tile.device, large=True)


def _attend(q: Tensor, k: Tensor, v: Tensor, tile: Tile, scale: float, softcap: float | None) -> Tensor:
    """One tile: ``(n, H, Dh)``."""
    mask, hulls = tile.mask(), (tile.prefix, tile.own)
    if tile.causal:
        out = _causal(q, _join(k, hulls), _join(v, hulls), scale)
    else:
        out = _dense(q, _join(k, hulls), _join(v, hulls), mask, scale, softcap)
    if (mask is None and not tile.causal) or not bool(out.sum().isnan()):
        return out
    # A weight of zero does not silence NaN: row by row, it stays with the rows that see it.
    rows = [(q[i : i + 1], tile.ranges[i].tolist()) for i in range(len(q))]
    return torch.cat([_dense(row, _join(k, seen), _join(v, seen), None, scale, softcap) for row, seen in rows])


def _join(x: Tensor, ranges: Iterable[tuple[int, int]]) -> Tensor:
    """Rows of ``x`` in the ranges, one behind the other; a view where only one holds any."""
    full = [x[low:high] for low, high in ranges if high > low]
    return full[0] if len(full) == 1 else torch.cat(full)


def _dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """``(n, H, Dh)``. Query heads that share a key head become rows of it, so that keys are never repeated."""
    n, heads, width = q.shape
    group = heads // k.shape[1]
    if group > 1:
        q = q.view(n, -1, group, width).transpose(0, 1).reshape(-1, n * group, width)  # (Hkv, n G, Dh)
        mask = None if mask is None else mask.repeat_interleave(group, dim=0)
    else:
        q = q.transpose(0, 1)
    k, v = k.transpose(0, 1), v.transpose(0, 1)  # (Hkv, m, Dh) each
    if softcap is None:
        out = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, scale=scale)[0]
    else:
        out = _capped(q, k, v, mask, scale, softcap)
    if group > 1:
        return out.view(-1, n, group, width).transpose(0, 1).reshape(n, heads, width)
    return out.transpose(0, 1)


def _capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float) -> Tensor:
    """``(Hkv, n G, Dh)`` queries over ``(Hkv, m, Dh)``; the fused operator knows no cap."""
    scores = softcap * ((q * scale) @ k.mT / softcap).tanh()  # (Hkv, n G, m)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype) @ v


def _causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """``(n, H, Dh)``; row i sees the first i + 1 keys. Heads that share a key head lie along the batch axis."""
    n, heads, width = q.shape
    group = heads // k.shape[1]
    out = F.scaled_dot_product_attention(
        q.view(n, -1, group, width).permute(2, 1, 0, 3),  # (G, Hkv, n, Dh)
        k.transpose(0, 1).expand(group, -1, -1, -1),
        v.transpose(0, 1).expand(group, -1, -1, -1),
        is_causal=True,
        scale=scale,
    )
    return out.permute(2, 1, 0, 3).reshape(n, heads, width)
