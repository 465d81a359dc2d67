"""Positions: rotary embedding over one or three axes, or learned ones.

Shapes: T rows, H heads, Dh head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anyany.errors import LayoutError


class Rotary(nn.Module):
    """RoPE (Su et al. 2021, arXiv 2104.09864), half-split as in Llama, over one or several axes.

    Args:
        head_dim: Dh, even.
        theta: Base of the frequencies.
        sections: How many of the ``Dh / 2`` frequencies turn with time, height and width (M-RoPE of
            Qwen2-VL, arXiv 2409.12191); ``None``: all turn with time.
        frequencies: Ready-made frequencies ``(Dh / 2,)``, for scaled variants.
    """

    def __init__(
        self, head_dim: int, *, theta: float = 10000.0, sections: Sequence[int] | None = None,
        frequencies: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        half = head_dim // 2
        if sections is not None and (sum(sections) != half or len(sections) != 3):
            raise LayoutError(f"rotary: three sections must add up to {half}, got {list(sections)}")
        if frequencies is None:
            frequencies = theta ** (-torch.arange(half, dtype=torch.float32) / half)
        axes = torch.zeros(half, dtype=torch.long)
        if sections is not None:
            axes = torch.repeat_interleave(torch.arange(3), torch.tensor(list(sections)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("axes", axes, persistent=False)

    def forward(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates ``(T, 3)`` -> cosine and sine, ``(T, 1, Dh / 2)`` each, shared by all layers."""
        angles = coordinates[:, self.axes] * self.frequencies  # (T, Dh / 2)
        return angles.cos()[:, None], angles.sin()[:, None]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn ``(T, H, Dh)`` by the angles of each row."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class LearnedPositions(nn.Module):
    """One learned vector per position of the first axis, added to the rows (GPT-2)."""

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(positions, width)

    def forward(self, x: Tensor, coordinates: Tensor) -> Tensor:
        """``(T, D)`` -> ``(T, D)``."""
        index = coordinates[:, 0].long()
        if len(index) and int(index.max()) >= self.table.num_embeddings:
            raise LayoutError(
                f"positions: {int(index.max()) + 1} needed, the backbone has {self.table.num_embeddings}; "
                "shorten the prompt"
            )
        return x + self.table(index)
