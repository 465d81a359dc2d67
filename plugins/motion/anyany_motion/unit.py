"""Latents of mean 0 and deviation 1, so that noise and flow mean the same for each of their numbers.

Shapes: n rows, D numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTUM = 0.05


class Unit(nn.Module):
    """Standardises each number by a running mean and variance, which only ``learn`` moves."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """``(n, D)`` by the running statistics: what a row becomes does not depend on the others."""
        return (x - self.mean) * (self.variance + 1e-5).rsqrt()

    def learn(self, x: Tensor) -> Tensor:
        """``(n, D)`` by their own statistics, which join the running ones; one row alone has none of its own."""
        if len(x) < 2:
            return self(x)
        mean, variance = x.mean(dim=0), x.var(dim=0)
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.variance.lerp_(variance, MOMENTUM)
        return (x - mean) * (variance + 1e-5).rsqrt()
