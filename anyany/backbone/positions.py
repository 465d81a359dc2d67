"""Positions: rotary embedding over one or three axes, or learned ones.

Shapes: T rows, H heads, Dh head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from anyany.errors import LayoutError


def rotary_frequencies(head_dim: int, theta: float) -> Tensor:
    """Plain frequencies ``(Dh / 2,)``, in radians per position."""
    half = head_dim // 2
    return theta ** (-torch.arange(half, dtype=torch.float32, device="cpu") / half)


class Rotary(nn.Module):
    """RoPE (Su et al. 2021, arXiv 2104.09864), half-split as in Llama, over one or several axes.

    Args:
        head_dim: Dh, even.
        theta: Base of the frequencies.
        sections: How many of the ``Dh / 2`` frequencies turn with time, height and width (M-RoPE of
            Qwen2-VL, arXiv 2409.12191); ``None``: all turn with time.
        frequencies: Ready-made frequencies ``(Dh / 2,)``, for scaled variants.
        scale: Lengthens what is turned (YaRN, arXiv 2309.00071).
        limit: Positions from 0 that may be turned, where what lies beyond would turn in another way; 0: all.

    Raises:
        LayoutError: Dh is odd, or sections or frequencies do not fill it.
    """

    def __init__(
        self, head_dim: int, *, theta: float = 10000.0, sections: Sequence[int] | None = None,
        frequencies: Tensor | None = None, scale: float = 1.0, limit: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.scale, self.limit = scale, limit
        half = head_dim // 2
        if head_dim % 2:
            raise LayoutError(f"rotary: expected an even head width, got {head_dim}")
        if sections is not None and (sum(sections) != half or len(sections) != 3):
            raise LayoutError(f"rotary: three sections must add up to {half}, got {list(sections)}")
        if frequencies is None:
            frequencies = rotary_frequencies(head_dim, theta)
        if tuple(frequencies.shape) != (half,):
            raise LayoutError(f"rotary: expected {half} frequencies, got shape {tuple(frequencies.shape)}")
        axes = torch.tensor([axis for axis, n in enumerate(sections or [half]) for _ in range(n)], device="cpu")
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("axes", axes, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Rotary:
        """Moves with the model, but stays float32: eight bits of a frequency lose the position."""
        exact = self.frequencies
        super()._apply(fn, recurse)
        self.frequencies = exact.to(self.axes.device)
        return self

    def forward(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates ``(T, 3)`` -> cosine and sine, ``(T, 1, Dh / 2)`` each, shared by the layers that it turns.

        Raises:
            LayoutError: A position lies beyond the limit.
        """
        if self.limit and len(coordinates) and float(coordinates.max()) >= self.limit:
            raise LayoutError(
                f"positions: {int(coordinates.max()) + 1} needed, the rotary scaling of this model is known for "
                f"{self.limit}, and beyond them depends on the length of the text; shorten the prompt or the reply"
            )
        angles = coordinates[:, self.axes] * self.frequencies  # (T, Dh / 2)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        return (cos, sin) if self.scale == 1.0 else (cos * self.scale, sin * self.scale)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn ``(T, H, Dh)`` by the angles of each row."""
    a, b = x.chunk(2, dim=-1)
    if not torch.is_grad_enabled() and x.dtype == cos.dtype:  # half the passes over memory
        out = torch.empty_like(x)
        first, second = out.chunk(2, dim=-1)
        torch.mul(a, cos, out=first).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=second).addcmul_(a, sin)
        return out
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
