"""The codec: a cloud along its own axes becomes a few codes, and codes a fixed number of points.

Points are pooled as in the encoder, and rounded to codes (finite scalar quantisation, arXiv 2309.15505). What comes
back is as close as can be to the set that went in, in whatever order (Chamfer distance, arXiv 1612.00603).

Shapes: B items, N points of one, R rows, C points that are made, K numbers of a code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.parts import Media
from anyany.plugin import Codes, Plan, Prepared
from anyany_points.encoder import PooledEncoder, cloud_of
from anyany_points.media import Points, example

NUMBERS, HALF = 4, 2  # numbers of a code, each from -HALF to HALF
LEVELS = 2 * HALF + 1


class SetCodec(nn.Module):
    """Points <-> ``(rows, 1)`` codes; it is trained first, by ``loss``.

    Args:
        rows: R.
        count: C.
        hidden: Width of the layers.
    """

    base: Tensor

    def __init__(self, rows: int, count: int, hidden: int) -> None:
        super().__init__()
        self.rows, self.count = rows, count
        self.latents = Codes(vocab=LEVELS**NUMBERS)
        self.down = PooledEncoder(rows, NUMBERS, hidden)
        self.up = nn.Sequential(
            nn.Linear(rows * NUMBERS, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, 2 * hidden), nn.GELU(),
            nn.Linear(2 * hidden, 3 * count),
        )  # fmt: skip
        self.register_buffer("base", LEVELS ** torch.arange(NUMBERS), persistent=False)

    def example(self, seed: int) -> Points:
        """A tiny valid item."""
        return example(seed)

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """Points around 0, of size 1, along their own axes.

        Raises:
            MediaError: No points.
        """
        cloud = cloud_of(media)
        return Prepared(arrays={"points": (cloud.shape() @ cloud.turn).astype(np.float32)}, rows=self.rows)

    def plan(self, like: Media | None = None) -> Plan:
        """Always R rows."""
        return Plan(rows=self.rows, fixed=True)

    def _quantise(self, batch: Sequence[Prepared]) -> Tensor:
        """Whole numbers ``(B * R, K)``; gradients pass straight through the rounding."""
        x = HALF * torch.tanh(self.down(batch))
        return x + (x.round() - x).detach()

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """Codes ``(B * R, 1)``."""
        return ((self._quantise(batch).round().long() + HALF) * self.base).sum(dim=1, keepdim=True)

    def decode(self, latents: Tensor, like: Media | None = None) -> Points:
        """Codes ``(n, 1)`` -> C points; rows that are missing are 0. Place, size and turn are those of ``like``."""
        numbers = (latents // self.base) % LEVELS - HALF  # (n, K)
        missing = numbers.new_zeros(self.rows - len(numbers), NUMBERS)
        with torch.no_grad():
            made = self.up(torch.cat([numbers, missing]).reshape(1, -1).to(self.up[0].weight))
        points = made.view(self.count, 3).double().cpu().numpy()
        return Points(points @ like.turn.T * like.radius + like.centre if isinstance(like, Points) else points)

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """From each point to the nearest of the other set, both ways."""
        made = self.up(self._quantise(batch).view(len(batch), -1)).view(len(batch), self.count, 3)
        terms = []
        for points, item in zip(made, batch, strict=True):
            away = torch.cdist(points, torch.from_numpy(item.arrays["points"]).to(points))  # (C, N)
            terms.append(away.amin(dim=0).mean() + away.amin(dim=1).mean())
        return {"chamfer": torch.stack(terms).mean()}
