"""A pass of a few rows over the cache, in as few operator calls as it takes: decoding on a CPU.

One row through one block is some twenty products and sums that take microseconds each, so that calls of
operators and modules are a good part of the time. Here weights are read straight from the modules, and
each row is multiplied with exactly the keys that it sees: no tile, no mask, no copy of keys. What comes
out is what ``Backbone.forward`` computes block by block, up to rounding.

Shapes: T rows, D model width, H query heads, Hkv key heads, G = H / Hkv, Dh head width, S keys, F hidden width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.backbone.blocks import Attention, GeGLU, SwiGLU
from anyany.backbone.cache import KVPool
from anyany.backbone.norms import PlusOneRMSNorm, RMSNorm
from anyany.sequence import window

if TYPE_CHECKING:
    from anyany.backbone.decoder import Backbone

FEW = 16
"""Rows up to which a product per row costs less than tiles with masks."""

LONG = 2048
"""Keys of a row from which its attention is work for more than one core."""

Seen = list[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]
"""What a row sees, range by range: keys ``(Hkv, Dh, m)`` and values ``(Hkv, m, Dh)`` of each layer."""


def is_few(x: Tensor) -> bool:
    """Whether rows ``(T, D)`` take this path: few, on a CPU, in full precision, and nothing learns."""
    return (
        len(x) <= FEW
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


@dataclass(frozen=True)
class Pass:
    """What all layers of a pass share.

    Attributes:
        cache: Of keys and values.
        slots: Pool rows that the rows take.
        targets: The same rows in keys and values of each layer, where they lie side by side.
        angles: Cosine and sine of each rotary embedding.
        turns: Matrices ``(T, Dh, Dh)`` that turn queries, scaled, and keys, by the embedding and scale of a mixer.
        seen: By window of a layer, what each row sees.
        threads: How many a product of a row with its keys may use.
    """

    cache: KVPool
    slots: slice | Tensor
    targets: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None
    angles: dict[str | None, tuple[Tensor, Tensor]]
    threads: int
    turns: dict[tuple[str | None, float], tuple[Tensor, Tensor] | None] = field(default_factory=dict)
    seen: dict[int | None, list[Seen]] = field(default_factory=dict)


def few_rows(
    backbone: Backbone, x: Tensor, coordinates: Tensor, intervals: Tensor, cache: KVPool, slots: slice | Tensor
) -> Tensor:
    """Rows ``(T, D)`` -> states after the last block, ``(T, D)``; arguments as of ``Backbone.forward``."""
    longest = max(sum(high - low for low, high in row) for row in intervals.tolist())
    threads = 1 if longest < LONG else torch.get_num_threads()
    with _threads(threads):
        angles = backbone.turns(coordinates)
    targets = (cache.keys[:, slots].unbind(), cache.values[:, slots].unbind()) if isinstance(slots, slice) else None
    shared = Pass(cache, slots, targets, angles, threads)
    for layer, block in enumerate(backbone.blocks.children()):
        parts: dict[str, Any] = block._modules  # a dictionary: ``block.mixer`` takes a microsecond
        mixer: Attention = parts["mixer"]
        if mixer.window not in shared.seen:
            reach = intervals if mixer.window is None else window(intervals, mixer.window, slots)
            shared.seen[mixer.window] = [_views(cache, row) for row in reach.tolist()]
        after = parts.get("mixer_after"), parts.get("ff_after")
        x = _mix(mixer, norm(parts["mixer_norm"], x), x, after[0], shared, layer)
        x = _feed(parts["ff"], norm(parts["ff_norm"], x), x, after[1])
    return x


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Operators use so many threads.

    To wake others costs more than a small product takes, and where another process has their core, each
    product waits for it for milliseconds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _turn(mixer: Attention, shared: Pass, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """Rotations of a head as matrices: one product turns all heads of a row. Made once for layers that are alike."""
    key = mixer.rotary, _scale(mixer)
    if key not in shared.turns:
        angles = shared.angles.get(mixer.rotary)
        keys = None if angles is None else _matrices(*angles, mixer.head_dim, dtype)
        shared.turns[key] = None if keys is None else (keys * _scale(mixer), keys)
    return shared.turns[key]


def _scale(mixer: Attention) -> float:
    return mixer.scale or 1.0 / math.sqrt(mixer.head_dim)


def _matrices(cos: Tensor, sin: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """``(T, Dh, Dh)``; numbers of a head that have no angle stay."""
    cos, sin = torch.diag_embed(cos[:, 0]), torch.diag_embed(sin[:, 0])  # (T, R / 2, R / 2)
    turned = torch.cat([torch.cat([cos, sin], -1), torch.cat([-sin, cos], -1)], 1).to(dtype)
    if turned.shape[-1] == width:
        return turned
    whole = torch.eye(width, dtype=dtype).repeat(len(turned), 1, 1)
    whole[:, : turned.shape[-1], : turned.shape[-1]] = turned
    return whole


def _views(cache: KVPool, ranges: list[list[int]]) -> Seen:
    """Keys and values of all layers; an empty range is left out where the other holds any."""
    full = [(low, high) for low, high in ranges if high > low] or [(0, 0)]
    return [
        (cache.keys[:, low:high].permute(0, 2, 3, 1).unbind(), cache.values[:, low:high].transpose(1, 2).unbind())
        for low, high in full
    ]


def _mix(mixer: Attention, x: Tensor, residual: Tensor, after: nn.Module | None, shared: Pass, layer: int) -> Tensor:
    """``residual`` and ``Attention.forward`` of ``x (T, D)``, normalised by ``after``, added."""
    parts: dict[str, Any] = mixer._modules
    n, heads, kv_heads, width = len(x), mixer.heads, mixer.kv_heads, mixer.head_dim
    qkv = linear(parts["qkv"], x).view(n, -1, width)  # (T, H + 2 Hkv, Dh)
    q, k, v = qkv.split_with_sizes([heads, kv_heads, kv_heads], 1)
    if parts.get("query_norm") is not None:
        q, k = norm(parts["query_norm"], q), norm(parts["key_norm"], k)
    with _threads(shared.threads):
        turn = _turn(mixer, shared, q.dtype)
        if turn is None:
            q = q * _scale(mixer)
        else:
            q, k = torch.bmm(q, turn[0]), torch.bmm(k, turn[1])
        if shared.targets is None:
            shared.cache.write(layer, shared.slots, k, v)
        else:
            shared.targets[0][layer].copy_(k)
            shared.targets[1][layer].copy_(v)
        rows = q.view(n, kv_heads, -1, width).unbind()  # (Hkv, G, Dh) each
        seen, cap = shared.seen[mixer.window], mixer.softcap
        mixed = [_attend(row, views, layer, cap) for row, views in zip(rows, seen, strict=True)]
    out = mixed[0] if n == 1 else torch.stack(mixed)
    return _added(parts["out"], out.view(n, -1), residual, after)


def _attend(q: Tensor, seen: Seen, layer: int, softcap: float | None) -> Tensor:
    """One row: ``(Hkv, G, Dh)`` -> the same; zeros where it sees no key."""
    if len(seen) == 1:
        keys, values = seen[0]
        return torch.bmm(_scores(q, keys[layer], softcap).softmax(-1), values[layer])
    scores = [_scores(q, keys[layer], softcap) for keys, _ in seen]  # (Hkv, G, m) each
    weights = torch.cat(scores, -1).softmax(-1).split([s.shape[-1] for s in scores], dim=-1)
    first, second = (torch.bmm(w, values[layer]) for w, (_, values) in zip(weights, seen, strict=True))
    return first.add_(second)


def _scores(q: Tensor, keys: Tensor, softcap: float | None) -> Tensor:
    scores = torch.bmm(q, keys)
    return scores if softcap is None else scores.div_(softcap).tanh_().mul_(softcap)


def _feed(ff: nn.Module, x: Tensor, residual: Tensor, after: nn.Module | None) -> Tensor:
    """``residual`` and a feed-forward of ``x (T, D)``, normalised by ``after`` if any, added."""
    if type(ff) not in (SwiGLU, GeGLU):
        return residual + (ff(x) if after is None else norm(after, ff(x)))
    parts: dict[str, Any] = ff._modules
    gate, up = linear(parts["gate_up"], x).chunk(2, -1)  # (T, F) each
    return _added(parts["down"], ff.opened(gate).mul_(up), residual, after)  # type: ignore[operator]


def _added(module: nn.Module, x: Tensor, residual: Tensor, after: nn.Module | None) -> Tensor:
    """``residual`` and a projection of ``x``, normalised by ``after``, added."""
    return linear(module, x, residual) if after is None else residual + norm(after, linear(module, x))


def linear(module: nn.Module, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """A projection, and what it is added to; one with hooks, or what stands in its place, is called as it is."""
    weights = module._parameters
    if type(module) is not nn.Linear or module._forward_hooks or (residual is not None and weights["bias"] is not None):
        return module(x) if residual is None else residual + module(x)
    if residual is None:
        return F.linear(x, weights["weight"], weights["bias"])  # type: ignore[arg-type]
    return torch.addmm(residual, x, weights["weight"].t())  # type: ignore[union-attr]


def norm(module: nn.Module, x: Tensor) -> Tensor:
    """A norm over the last axis."""
    return module.quick(x) if type(module) in (RMSNorm, PlusOneRMSNorm) else module(x)  # type: ignore[operator]
