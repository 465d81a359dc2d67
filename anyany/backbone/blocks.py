"""The parts of a block: norms, feed-forward, attention, and the block itself.

Shapes: T rows, D model width, H query heads, Hkv key heads, Dh head width, S keys, F hidden width.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.backbone.cache import KVPool
from anyany.backbone.cpu_attention import Tiles
from anyany.backbone.ops import interval_attention
from anyany.backbone.positions import rotate


class SwiGLU(nn.Module):
    """``down(silu(gate x) * up x)`` (Shazeer 2020, arXiv 2002.05202); gate and up are one matrix."""

    @staticmethod
    def opened(gate: Tensor) -> Tensor:
        """How far the gates ``(T, F)`` open."""
        return F.silu(gate)

    def __init__(self, width: int, hidden: int, *, bias: bool = False) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(T, D)`` -> ``(T, D)``."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # (T, F) each
        opened = self.opened(gate)
        # In place saves a tenth of a long prompt's feed-forward; autograd wants to keep what it was.
        return self.down(opened * up if torch.is_grad_enabled() else opened.mul_(up))


class GeGLU(SwiGLU):
    """The same with the tanh form of GELU as the gate."""

    @staticmethod
    def opened(gate: Tensor) -> Tensor:
        """How far the gates ``(T, F)`` open."""
        return F.gelu(gate, approximate="tanh")


class GELUMLP(nn.Module):
    """``down(gelu(up x))``, with the tanh form of GPT-2 when ``approximate``."""

    def __init__(self, width: int, hidden: int, *, bias: bool = True, approximate: bool = True) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)
        self.form = "tanh" if approximate else "none"

    def forward(self, x: Tensor) -> Tensor:
        """``(T, D)`` -> ``(T, D)``."""
        return self.down(F.gelu(self.up(x), approximate=self.form))


class Attention(nn.Module):
    """Grouped-query attention over intervals.

    Args:
        width: D.
        heads: H.
        kv_heads: Hkv, divides H.
        head_dim: Dh.
        bias: Of the query, key and value projections.
        out_bias: Of the output projection.
        query_norm: Normalises queries per head, or ``None``; likewise ``key_norm``.
        window: Rows that a row sees, itself included; ``None`` is all.
        rotary: What turns queries and keys: ``None``, the rotary embedding of the backbone; ``local``, its local one;
            ``none``, nothing.
        turned: Numbers of a head that are turned; ``None`` is all.
        scale: Of the scores; ``None`` is ``1 / sqrt(Dh)``.
        softcap: Scores s become ``softcap * tanh(s / softcap)`` (Gemma 2, arXiv 2408.00118); ``None`` leaves them.
    """

    def __init__(
        self, width: int, *, heads: int, kv_heads: int, head_dim: int, bias: bool = False, out_bias: bool = False,
        query_norm: nn.Module | None = None, key_norm: nn.Module | None = None, window: int | None = None,
        rotary: Literal["local", "none"] | None = None, turned: int | None = None, scale: float | None = None,
        softcap: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.window = heads, kv_heads, head_dim, window
        self.rotary, self.turned, self.scale, self.softcap = rotary, turned, scale, softcap
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * head_dim, bias=bias)
        self.out = nn.Linear(heads * head_dim, width, bias=out_bias)
        self.query_norm, self.key_norm = query_norm, key_norm

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor] | None, intervals: Tensor, plan: Tiles | None,
        cache: KVPool | None, slots: slice | Tensor | None, layer: int,
    ) -> Tensor:  # fmt: skip
        """``(T, D)`` -> ``(T, D)``."""
        qkv = self.qkv(x).view(len(x), -1, self.head_dim)  # (T, H + 2 Hkv, Dh)
        both, v = qkv[:, : self.heads + self.kv_heads], qkv[:, self.heads + self.kv_heads :]
        if self.query_norm is not None and self.key_norm is not None:
            both = torch.cat([self.query_norm(both[:, : self.heads]), self.key_norm(both[:, self.heads :])], 1)
        if turn is not None and self.turned is None:
            both = rotate(both, *turn)
        elif turn is not None:
            both = torch.cat([rotate(both[..., : self.turned], *turn), both[..., self.turned :]], -1)
        q, k = both[:, : self.heads], both[:, self.heads :]  # (T, H, Dh), (T, Hkv, Dh)
        if cache is not None and slots is not None:
            k, v = cache.write(layer, slots, k, v)  # (S, Hkv, Dh)
        mixed = interval_attention(q, k, v, intervals, scale=self.scale, softcap=self.softcap, plan=plan)  # (T, H, Dh)
        return self.out(mixed.reshape(len(x), -1))


class Block(nn.Module):
    """Residual block: mixer, then feed-forward.

    Args:
        mixer_norm: Before the mixer; ``nn.Identity`` where there is none, likewise ``ff_norm``.
        mixer: Attention.
        ff_norm: Before the feed-forward.
        ff: Feed-forward.
        mixer_after: Norm of what the mixer adds, or ``None``; likewise ``ff_after``.
        ff_after: Norm of what the feed-forward adds.
    """

    def __init__(
        self, *, mixer_norm: nn.Module, mixer: Attention, ff_norm: nn.Module, ff: nn.Module,
        mixer_after: nn.Module | None = None, ff_after: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.mixer_norm, self.mixer, self.ff_norm, self.ff = mixer_norm, mixer, ff_norm, ff
        self.mixer_after, self.ff_after = mixer_after, ff_after

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor] | None, intervals: Tensor, plan: Tiles | None,
        cache: KVPool | None, slots: slice | Tensor | None, layer: int,
    ) -> Tensor:  # fmt: skip
        """``(T, D)`` -> ``(T, D)``."""
        mixed = self.mixer(self.mixer_norm(x), turn, intervals, plan, cache, slots, layer)
        x = x + (mixed if self.mixer_after is None else self.mixer_after(mixed))
        fed = self.ff(self.ff_norm(x))
        return x + (fed if self.ff_after is None else self.ff_after(fed))
