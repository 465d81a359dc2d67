"""Embedding regression: a vector for an external generator (NExT-GPT, CoDi-2 and their kind).

Shapes: n rows, d numbers per row, D model width, B requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.heads.base import HeadLoss, boundaries, end_loss
from anyany.heads.guidance import combine
from anyany.heads.sampling import sample_end
from anyany.heads.steps import Picked, Sampling
from anyany.heads.vectors import VectorHead, mean_present, present


class EmbeddingHead(VectorHead):
    """The next vector by squared error and cosine; deterministic."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__(width, dim)
        self.vector = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim))
        self.stop = nn.Linear(width, 1)

    def loss(self, hidden: Tensor, latents: Tensor, lengths: Sequence[int], fixed: bool) -> HeadLoss:
        """Mean squared error plus ``1 - cosine`` per row, and of the end."""
        rows, _ = boundaries(lengths, hidden.device)
        target, there = present(self.scale(latents))
        guess = self.vector(hidden[rows]).float() * there
        total = mean_present((target - guess).square(), there).sum()
        total = total + (1 - F.cosine_similarity(target, guess, dim=-1)).sum()
        if not fixed:
            total = total + end_loss(self.stop(hidden)[:, 0], lengths)
        return HeadLoss(total, len(rows))

    def pick(
        self,
        hidden: Tensor,
        rules: Sequence[Sampling],
        draws: Sequence[torch.Generator],
        states: Sequence[Any],
    ) -> Picked:
        """Vectors ``(B, d)``."""
        latents = self.scale.inverse(combine(self.vector(hidden).float(), rules))
        end, _ = sample_end(combine(self.stop(hidden).float(), rules)[:, 0], rules, draws, states)
        return Picked(latents, end)
