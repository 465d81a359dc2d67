"""Finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505): a code without a codebook."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FSQ(nn.Module):
    """Rounds each of a few bounded numbers to one of its levels; a code numbers the combination.

    Args:
        levels: Levels of each number, such as ``(8, 5, 5, 5)``.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.vocab = len(levels), 1
        basis = []
        for level in levels:
            basis.append(self.vocab)
            self.vocab *= level
        self.levels: Tensor
        self.basis: Tensor
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor(basis), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., dim)`` -> the nearest levels in [-1, 1]; gradients pass straight through."""
        half = (self.levels - 1) / 2
        bounded = torch.tanh(x) * half
        even = (self.levels % 2 == 0) * 0.5
        rounded = torch.round(bounded - even) + even
        rounded = torch.minimum(torch.maximum(rounded, -half), half)
        return (bounded + (rounded - bounded).detach()) / half

    def codes(self, quantised: Tensor) -> Tensor:
        """Levels in [-1, 1] ``(..., dim)`` -> codes ``(...)`` in ``[0, vocab)``."""
        half = (self.levels - 1) / 2
        return (torch.round(quantised * half + half).long() * self.basis).sum(dim=-1)

    def values(self, codes: Tensor) -> Tensor:
        """Codes ``(...)`` -> levels in [-1, 1] ``(..., dim)``."""
        half = (self.levels - 1) / 2
        return ((codes[..., None] // self.basis) % self.levels - half) / half
