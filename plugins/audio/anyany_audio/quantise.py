"""Finite scalar quantisation in several books (Mentzer et al. 2023, arXiv 2309.15505).

Shapes: K books, L numbers per book.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ProductFSQ(nn.Module):
    """Rounds ``K * L`` bounded numbers to levels; each book numbers its own L of them.

    Args:
        levels: Levels of the numbers of one book.
        books: K.
    """

    def __init__(self, levels: Sequence[int], books: int) -> None:
        super().__init__()
        self.dim, self.books, self.vocab = len(levels) * books, books, math.prod(levels)
        self.levels: Tensor
        self.basis: Tensor
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor([1, *levels[:-1]]).cumprod(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., K * L)`` -> the nearest levels in [-1, 1]; gradients pass straight through."""
        share = (torch.tanh(x).unflatten(-1, (self.books, -1)) + 1) / 2 * (self.levels - 1)
        rounded = share + (share.round() - share).detach()
        return (rounded / (self.levels - 1) * 2 - 1).flatten(-2)

    def codes(self, quantised: Tensor) -> Tensor:
        """Levels ``(..., K * L)`` -> codes ``(..., K)`` in ``[0, vocab)``."""
        share = (quantised.unflatten(-1, (self.books, -1)) + 1) / 2 * (self.levels - 1)
        return (share.round().long() * self.basis).sum(dim=-1)

    def values(self, codes: Tensor) -> Tensor:
        """Codes ``(..., K)`` -> levels in [-1, 1] ``(..., K * L)``."""
        share = (codes[..., None] // self.basis) % self.levels
        return (share / (self.levels - 1) * 2 - 1).flatten(-2)
