"""The encoder: each point by itself, then mean and largest of each number over them all (PointNet, arXiv 1612.00593).

Neither of a set depends on an order; place and size of a cloud do not enter. How far a point is from the centre, which
no turn changes, is said beside where it lies, by bumps: the mean of one is the share of points at its distance.

Shapes: N points of an item, R rows, D width, H hidden.
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

BUMPS = 16  # evenly from the centre on
FAR = 2.0  # where they end; the root mean square distance of points is 1


class PooledEncoder(nn.Module):
    """A cloud -> ``(rows, width)``.

    Args:
        rows: R.
        width: D.
        hidden: H, numbers of a point.
    """

    def __init__(self, rows: int, width: int, hidden: int) -> None:
        super().__init__()
        self.rows, self.width = rows, width
        self.each = nn.Sequential(
            nn.Linear(3 + BUMPS, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.join = nn.Sequential(nn.LayerNorm(2 * hidden), nn.Linear(2 * hidden, rows * width))

    def example(self, seed: int) -> Points:
        """A tiny valid item."""
        return example(seed)

    def prepare(self, media: Media) -> Prepared:
        """Points around 0, of size 1; any number of them gives R rows."""
        return Prepared(arrays={"points": cloud_of(media).shape()}, rows=self.rows, look="full")

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """``(sum of R, D)``."""
        clouds = [item.arrays["points"] for item in batch]
        points = torch.from_numpy(np.concatenate(clouds)).to(self.each[0].weight)  # (sum of N, 3)
        away = points.norm(dim=1, keepdim=True) * (BUMPS / FAR) - torch.arange(BUMPS, device=points.device)
        made = self.each(torch.cat([points, torch.exp(-away.square())], dim=1))  # (sum of N, H)
        sets = made.split([len(cloud) for cloud in clouds])
        pooled = torch.stack([torch.cat([each.mean(dim=0), each.amax(dim=0)]) for each in sets])  # (items, 2 H)
        return self.join(pooled).view(-1, self.width)


def cloud_of(media: Media) -> Points:
    """The media, if they are points.

    Raises:
        MediaError: They are not.
    """
    if not isinstance(media, Points):
        raise MediaError(f"points: expected Points, got {type(media).__name__}")
    return media
