"""The encoder: each point by itself, then the largest of each number over all points (PointNet, arXiv 1612.00593).

The largest of a set does not depend on an order; place and size of a cloud do not enter.

Shapes: N points of an item, R rows, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.errors import MediaError
from anyany.parts import Media
from anyany.plugin import Prepared
from anyany_points.media import Points, example


class PooledEncoder(nn.Module):
    """A cloud -> ``(rows, width)``.

    Args:
        rows: R.
        width: D.
        hidden: Width of the layers before the last.
    """

    def __init__(self, rows: int, width: int, hidden: int) -> None:
        super().__init__()
        self.rows, self.width = rows, width
        self.each = nn.Sequential(
            nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, rows * width)
        )
        self.norm = nn.LayerNorm(width)

    def example(self, seed: int) -> Points:
        """A tiny valid item."""
        return example(seed)

    def prepare(self, media: Media) -> Prepared:
        """Points around 0, of size 1; any number of them gives R rows."""
        return Prepared(arrays={"points": shape(media)}, rows=self.rows, look="full")

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """``(sum of R, D)``."""
        clouds = [item.arrays["points"] for item in batch]
        made = self.each(torch.from_numpy(np.concatenate(clouds)).to(self.each[0].weight))  # (sum of N, R * D)
        pooled = torch.stack([each.amax(dim=0) for each in made.split([len(cloud) for cloud in clouds])])
        return self.norm(pooled.view(-1, self.width))


def shape(media: Media) -> np.ndarray:
    """``(N, 3)`` around 0, of size 1.

    Raises:
        MediaError: No points.
    """
    if not isinstance(media, Points):
        raise MediaError(f"points: expected Points, got {type(media).__name__}")
    return media.shape()
