"""Patch regression with quantiles: each row is a vector of numbers, predicted as quantiles.

After TimesFM (arXiv 2310.10688) and Chronos-Bolt: pinball loss over several levels; the median is fed
back. Draws at a temperature interpolate between the levels.

Shapes: n rows, d numbers per row, Q levels, D model width, B requests.
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
from anyany.heads.vectors import VectorHead


class RegressionHead(VectorHead):
    """Quantiles ``(d, Q)`` of the next row."""

    def __init__(self, width: int, dim: int, quantiles: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9)) -> None:
        super().__init__(width, dim)
        self.levels: Tensor
        self.register_buffer("levels", torch.tensor(sorted(quantiles)), persistent=False)
        self.middle = len(quantiles) // 2
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, dim * len(quantiles))
        self.skip = nn.Linear(width, dim * len(quantiles))
        self.stop = nn.Linear(width, 1)

    def quantiles(self, hidden: Tensor) -> Tensor:
        """Hidden states ``(..., D)`` -> scaled quantiles ``(..., d, Q)``."""
        flat = self.outer(F.silu(self.inner(hidden))) + self.skip(hidden)
        return flat.view(*hidden.shape[:-1], self.dim, len(self.levels))

    def loss(self, hidden: Tensor, latents: Tensor, lengths: Sequence[int], fixed: bool) -> HeadLoss:
        """Pinball loss over numbers that are there, averaged per row, and of the end."""
        rows, _ = boundaries(lengths, hidden.device)
        target = self.scale(latents)[..., None]  # (n, d, 1)
        there = ~target.isnan()
        error = target.nan_to_num(0.0) - self.quantiles(hidden[rows]).float()  # (n, d, Q)
        each = torch.maximum(self.levels * error, (self.levels - 1) * error) * there
        counts = (there.sum(dim=(1, 2)) * len(self.levels)).clamp(min=1)
        total = 2 * (each.sum(dim=(1, 2)) / counts).sum()
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
        """Vectors ``(B, d)``; ``extra["quantiles"]`` is ``(B, d, Q)`` in the scale of the latents."""
        levels = combine(self.quantiles(hidden).float(), rules)  # (B, d, Q)
        values = []
        for b, (rule, draw) in enumerate(zip(rules, draws, strict=True)):
            row = levels[b]
            values.append(row[:, self.middle] if rule.temperature == 0 else self._interpolate(row, rule, draw))
        latents = self.scale.inverse(torch.stack(values))
        end, _ = sample_end(combine(self.stop(hidden).float(), rules)[:, 0], rules, draws, states)
        spread = levels * self.scale.std[:, None] + self.scale.mean[:, None]
        return Picked(latents, end, extra={"quantiles": spread})

    def _interpolate(self, row: Tensor, rule: Sampling, draw: torch.Generator) -> Tensor:
        """One level per row of numbers, drawn around the middle; ``(d, Q)`` -> ``(d,)``."""
        if len(self.levels) == 1:
            return row[:, 0]
        u = 0.5 + (float(torch.rand((), generator=draw)) - 0.5) * min(rule.temperature, 1.0)
        u = min(max(u, float(self.levels[0])), float(self.levels[-1]))
        high = int(torch.searchsorted(self.levels, u).clamp(1, len(self.levels) - 1))
        low = high - 1
        share = (u - self.levels[low]) / (self.levels[high] - self.levels[low])
        ordered = row.sort(dim=-1).values
        return ordered[:, low] + share * (ordered[:, high] - ordered[:, low])
