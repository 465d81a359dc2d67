"""The codec: half a second is a vector, as it is. It has no weights; the head learns scale and shape of the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.parts import Media
from anyany.plugin import Plan, Prepared, Vectors
from anyany_inertial.media import AXES, Inertial, example, from_rows, places, to_rows


class PatchCodec(nn.Module):
    """Readings <-> vectors at one rate.

    Args:
        rate: In Hz, of what it takes apart and makes.
        patch: Readings of a row.
        rows: Most rows.
    """

    def __init__(self, rate: float, patch: int, rows: int) -> None:
        super().__init__()
        self.rate, self.patch, self.rows = rate, patch, rows
        self.latents = Vectors(dim=AXES * patch, objective="flow")

    def example(self, seed: int) -> Inertial:
        """A tiny valid item."""
        return example(seed)

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """As of the encoder, but what is not there is NaN.

        Raises:
            MediaError: Not inertial, or too long.
        """
        values = to_rows(media, self.rate, self.patch, self.rows)
        return Prepared(
            arrays={"rows": values}, rows=len(values), coordinates=places(len(values), self.rate, self.patch)
        )

    def plan(self, like: Media | None = None) -> Plan:
        """Up to ``rows`` rows; the model learns where it ends."""
        return Plan(rows=self.rows, fixed=False, coordinates=places(self.rows, self.rate, self.patch))

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """Vectors ``(sum of rows, 6 * patch)``."""
        return torch.from_numpy(np.concatenate([item.arrays["rows"] for item in batch]))

    def decode(self, latents: Tensor, like: Media | None = None) -> Inertial:
        """Vectors ``(R, 6 * patch)`` -> readings at ``rate``, for any R."""
        return from_rows(latents.float().cpu().numpy(), self.rate)

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """There is nothing to train."""
        return {"nothing": torch.zeros(())}
