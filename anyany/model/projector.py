"""The projector: features of an encoder -> rows of the sequence, with the marks around them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Projector(nn.Module):
    """LayerNorm, then a linear map or a two-layer MLP (LLaVA-1.5, arXiv 2310.03744).

    ``begin`` and ``end`` are the embeddings of the marks of this encoder's spans, ``(D,)`` each.
    """

    def __init__(self, features: int, width: int, *, layers: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.inner = nn.Linear(features, width) if layers > 1 else None
        self.outer = nn.Linear(width if layers > 1 else features, width)
        self.begin = nn.Parameter(torch.randn(width) * 0.02)
        self.end = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, features: Tensor) -> Tensor:
        """``(n, features)`` -> ``(n, D)``."""
        x = self.norm(features)
        if self.inner is not None:
            x = nn.functional.gelu(self.inner(x))
        return self.outer(x)
