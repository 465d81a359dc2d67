"""What heads of continuous latents share: their scale, and numbers that are not there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyany.heads.base import Head


class Scale(nn.Module):
    """Brings latents of any scale to mean 0 and deviation 1, per dimension; set once by ``fit``."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    @property
    def fresh(self) -> bool:
        """Whether it was never fitted: it changes nothing."""
        return not bool(self.mean.any()) and bool((self.std == 1).all())

    @torch.no_grad()
    def fit(self, latents: Tensor) -> None:
        """Take the scale from ``(n, dim)``; NaN is left out, a constant dimension keeps deviation 1."""
        self.mean.copy_(latents.nanmean(dim=0).nan_to_num(0.0))
        spread = (latents - self.mean).square().nanmean(dim=0).sqrt().nan_to_num(1.0)
        self.std.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def forward(self, latents: Tensor) -> Tensor:
        """To mean 0 and deviation 1."""
        return (latents - self.mean) / self.std

    def inverse(self, scaled: Tensor) -> Tensor:
        """Back to the latents' own scale."""
        return scaled * self.std + self.mean


def present(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers with 0 for those that are not there, and which are: ``(..., d)`` each."""
    return scaled.nan_to_num(0.0), ~scaled.isnan()


def mean_present(errors: Tensor, there: Tensor) -> Tensor:
    """Mean over the numbers of each row that are there: ``(..., d)`` -> ``(...)``; 0 where none is."""
    return (errors * there).sum(dim=-1) / there.sum(dim=-1).clamp(min=1)


class VectorEmbedding(nn.Module):
    """``(n, dim)`` with NaN for what is not there -> ``(n, D)``."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(2 * dim, width)
        self.outer = nn.Linear(width, width)

    def forward(self, scaled: Tensor) -> Tensor:
        """Values and a mask, through a two-layer MLP."""
        values, there = present(scaled)
        x = torch.cat([values, there.to(scaled.dtype)], dim=-1).to(self.inner.weight.dtype)
        return self.outer(nn.functional.gelu(self.inner(x)))


class VectorHead(Head):
    """A head of continuous latents: ``scale`` knows their scale, ``embedding`` feeds them back in."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__(width)
        self.dim = dim
        self.scale = Scale(dim)
        self.embedding = VectorEmbedding(dim, width)

    @property
    def unscaled(self) -> bool:
        """Whether ``fit`` is still to be called."""
        return self.scale.fresh

    def fit(self, latents: Tensor) -> None:
        """Learn the scale of the latents."""
        self.scale.fit(latents)

    def embed(self, latents: Tensor) -> Tensor:
        """Clean latents ``(n, d)`` -> rows ``(n, D)``."""
        return self.embedding(self.scale(latents))
