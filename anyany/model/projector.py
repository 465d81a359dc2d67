"""Projectors: features of an encoder -> rows of the sequence, with the marks around them.

Shapes: n feature rows of all items of a batch, m rows of the sequence, D model width, Q queries, H heads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from anyany.backbone.norms import PlusOneRMSNorm
from anyany.errors import CheckpointError, LayoutError
from anyany.plugin.components import Prepared

NORMS: Mapping[str | bool, Callable[..., nn.Module]] = {
    "layer": nn.LayerNorm, "rms_plus_one": PlusOneRMSNorm, "none": nn.Identity, True: nn.LayerNorm, False: nn.Identity,
}  # fmt: skip


class Projector(nn.Module):
    """LayerNorm, then a linear map or a two-layer MLP (LLaVA-1.5, arXiv 2310.03744): one row per feature row.

    Args:
        features: Width of a feature row.
        width: D.
        layers: 1 or 2.
        norm: How features are normalised: ``layer``, ``rms_plus_one`` (RMSNorm whose weight is what is added to 1), or
            ``none``; true and false are short for the first and the last.
        eps: Of the norm.
        bias: Of the linear maps.
        marks: Whether the spans have marks: ``begin`` and ``end`` are their embeddings, ``(D,)`` each.
    """

    def __init__(
        self, features: int, width: int, *, layers: int = 2, norm: str | bool = "layer", eps: float = 1e-5,
        bias: bool = True, marks: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm = NORMS[norm](features, eps=eps)
        self.inner = nn.Linear(features, width, bias=bias) if layers > 1 else None
        self.outer = nn.Linear(width if layers > 1 else features, width, bias=bias)
        self.begin = nn.Parameter(torch.randn(width) * 0.02) if marks else None
        self.end = nn.Parameter(torch.randn(width) * 0.02) if marks else None

    @property
    def marked(self) -> bool:
        """Whether the spans have marks."""
        return self.begin is not None

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.outer.weight.dtype

    def laid(self, prepared: Prepared) -> Prepared:
        """The same item with the rows and coordinates that come out of ``forward``; uses no weights."""
        return prepared

    def forward(self, features: Tensor, items: Sequence[Prepared] = ()) -> Tensor:
        """Features ``(n, features)`` of ``items``, one behind the other -> ``(m, D)``."""
        x = self.norm(features)
        if self.inner is not None:
            x = F.gelu(self.inner(x))
        return self.outer(x)


class Grouped(Projector, ABC):
    """``factor * factor`` neighbours of a grid become one row.

    Args:
        inputs: Width of what ``together`` makes.
        width: D.
        factor: Neighbours a side.
        **options: Of ``Projector``.
    """

    def __init__(self, inputs: int, width: int, *, factor: int, **options: Any) -> None:
        super().__init__(inputs, width, **options)
        if factor < 1:
            raise ValueError
        self.factor = factor

    def laid(self, prepared: Prepared) -> Prepared:
        """A row per group, where the first of the group was, in steps of the groups.

        Raises:
            LayoutError: The rows are no grid in reading order, or ``factor`` does not divide its sides.
        """
        first = self._groups(np.arange(prepared.rows)[:, None], prepared)[:, 0, 0]
        coordinates = prepared.coordinates
        values = coordinates.values[first].copy()  # type: ignore[union-attr]
        values[:, 1:] //= self.factor
        moved = replace(coordinates, values=values)  # type: ignore[type-var]
        return replace(prepared, rows=len(values), coordinates=moved)

    def forward(self, features: Tensor, items: Sequence[Prepared] = ()) -> Tensor:
        """Features ``(n, features)`` of ``items`` -> ``(n / factor^2, D)``."""
        parts = features.split([item.rows for item in items])
        groups = torch.cat([self._groups(part, item) for part, item in zip(parts, items, strict=True)])
        return super().forward(self.together(groups))

    @abstractmethod
    def together(self, groups: Tensor) -> Tensor:
        """``(m, factor^2, features)`` -> ``(m, inputs)``."""

    def _groups(self, rows: Any, prepared: Prepared) -> Any:
        """Rows ``(n, C)`` of an item, an array or a tensor -> ``(n / factor^2, factor^2, C)``."""
        moments, height, width = self._grid(prepared)
        f = self.factor
        cells = rows.reshape(moments, height // f, f, width // f, f, -1).swapaxes(2, 3)
        return cells.reshape(moments * height * width // f**2, f**2, -1)

    def _grid(self, prepared: Prepared) -> tuple[int, int, int]:
        """Moments, height and width of the rows."""
        if prepared.coordinates is not None:
            values = prepared.coordinates.values
            height, width = (len(np.unique(values[:, axis])) for axis in (1, 2))
            places = np.stack(np.divmod(np.arange(prepared.rows) % (height * width), width), axis=1)
            whole = prepared.rows % (height * width) == 0 and height % self.factor == width % self.factor == 0
            if whole and np.array_equal(values[:, 1:] - values[0, 1:], places):
                return prepared.rows // (height * width), height, width
        raise LayoutError(
            f"projector: expected a grid in reading order whose sides are multiples of {self.factor}, "
            f"got {prepared.rows} rows that are none; choose another factor, or another projector"
        )


class PixelShuffle(Grouped):
    """Neighbours lie side by side, then an MLP (InternVL 1.5, arXiv 2404.16821)."""

    def __init__(self, features: int, width: int, *, factor: int = 2, **options: Any) -> None:
        super().__init__(features * max(factor, 1) ** 2, width, factor=factor, **options)

    def together(self, groups: Tensor) -> Tensor:
        """``(m, factor^2, features)`` -> ``(m, factor^2 * features)``."""
        return groups.flatten(1)


class Average(Grouped):
    """The mean of neighbours, then a linear map (Gemma 3, arXiv 2503.19786)."""

    def __init__(self, features: int, width: int, *, factor: int = 2, **options: Any) -> None:
        super().__init__(features, width, factor=factor, **{"layers": 1, **options})

    def together(self, groups: Tensor) -> Tensor:
        """``(m, factor^2, features)`` -> ``(m, features)``."""
        return groups.mean(dim=1)


class Resampler(Projector):
    """Learned queries read the rows of an item by attention: always Q rows (Qwen-VL, arXiv 2308.12966).

    Args:
        features: Width of a feature row.
        width: D.
        queries: Q.
        heads: H, divides D.
        **options: Of ``Projector``, through which the features go first.
    """

    def __init__(self, features: int, width: int, *, queries: int = 64, heads: int = 4, **options: Any) -> None:
        super().__init__(features, width, **{"layers": 1, **options})
        if queries < 1 or heads < 1 or width % heads:
            raise ValueError
        self.heads = heads
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.query_norm, self.key_norm, self.after = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, width)

    def laid(self, prepared: Prepared) -> Prepared:
        """Q rows, one behind the other."""
        return replace(prepared, rows=len(self.queries), coordinates=None)

    def forward(self, features: Tensor, items: Sequence[Prepared] = ()) -> Tensor:
        """Features ``(n, features)`` of ``items`` -> ``(len(items) * Q, D)``."""
        lengths = [item.rows for item in items]
        rows = self.key_value(self.key_norm(super().forward(features)))  # (n, 2 D)
        keys, values = pad_sequence(rows.split(lengths), batch_first=True).chunk(2, dim=-1)  # (B, longest, D) each
        there = torch.arange(keys.shape[1], device=rows.device) < torch.tensor(lengths, device=rows.device)[:, None]
        query = self.query(self.query_norm(self.queries)).expand(len(items), -1, -1)  # (B, Q, D)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, keys, values))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None])  # (B, H, Q, D / H)
        read = self.queries + self.out(mixed.transpose(1, 2).flatten(2))
        return self.last(self.after(read)).flatten(0, 1)


KINDS: Mapping[str, Callable[..., Projector]] = {
    "linear": lambda features, width, **options: Projector(features, width, layers=1, **options),
    "mlp": lambda features, width, **options: Projector(features, width, layers=2, **options),
    "average": Average,
    "pixel-shuffle": PixelShuffle,
    "resampler": Resampler,
}
"""Projectors by the name that ``compose`` and checkpoints know."""


def build_projector(features: int, width: int, *, kind: str = "mlp", **options: Any) -> Projector:
    """A fresh projector.

    Args:
        features: Width of a feature row.
        width: D.
        kind: ``linear``, ``mlp``, ``average``, ``pixel-shuffle`` or ``resampler``.
        **options: Of its constructor.

    Raises:
        CheckpointError: There is no such kind or option, or its numbers fit no projector.
    """
    if kind not in KINDS:
        raise CheckpointError(f"projector: expected a kind among {', '.join(KINDS)}, got {kind!r}")
    try:
        return KINDS[kind](features, width, **options)
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise CheckpointError(f"projector: {kind!r} has no such options or numbers: {options}") from None
