"""The codec: a row for each of a fixed number of points. It has no weights.

A flow over the whole span makes them, all at once. Rows see each other both ways and all lie at one place of the sequence,
so that nothing tells the model an order of points (sets by flows over their members: arXiv 1906.12320).

Shapes: N points of an item, C points that are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.parts import Media
from anyany.plugin import Coordinates, Plan, Prepared, Vectors
from anyany_points.encoder import shape
from anyany_points.media import Points, example


class SetCodec(nn.Module):
    """Points <-> ``(count, 3)``, around 0 and of size 1.

    Args:
        count: C.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.latents = Vectors(dim=3, objective="flow-span")

    def example(self, seed: int) -> Points:
        """A tiny valid item."""
        return example(seed)

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """C points that lie far apart; a smaller cloud is gone through again.

        Raises:
            MediaError: No points.
        """
        points = shape(media)
        kept = spread(points, min(self.count, len(points)))
        return Prepared(
            arrays={"points": np.resize(points[kept], (self.count, 3))}, rows=self.count,
            coordinates=self._nowhere(), look="full",
        )  # fmt: skip

    def plan(self, like: Media | None = None) -> Plan:
        """Always C rows."""
        return Plan(rows=self.count, fixed=True, coordinates=self._nowhere())

    def _nowhere(self) -> Coordinates:
        return Coordinates(values=np.zeros((self.count, 3), np.float32))

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """``(sum of C, 3)``."""
        return torch.from_numpy(np.concatenate([item.arrays["points"] for item in batch]))

    def decode(self, latents: Tensor, like: Media | None = None) -> Points:
        """Rows ``(n, 3)`` -> points, in size and place of ``like`` where there is one."""
        points = latents.detach().double().cpu().numpy()
        if isinstance(like, Points):
            points = points * like.radius + like.points.mean(axis=0, dtype=np.float64)
        return Points(points)

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """There is nothing to train."""
        return {"nothing": torch.zeros(())}


def spread(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of so many points ``(N, 3)``, each as far as can be from those before it; the first is the outermost.

    Farthest point sampling (arXiv 1706.02413), which does not depend on the order of points but for those equally far.
    """
    chosen = [int(np.square(points).sum(axis=1).argmax())]
    away = np.full(len(points), np.inf)
    while len(chosen) < count:
        away = np.minimum(away, np.square(points - points[chosen[-1]]).sum(axis=1))
        chosen.append(int(away.argmax()))
    return np.array(chosen)
