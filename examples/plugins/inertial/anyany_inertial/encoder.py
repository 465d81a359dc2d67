"""The encoder: a feature row for each half a second; the backbone relates them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.parts import Media
from anyany.plugin import Prepared
from anyany_inertial.media import AXES, Inertial, example, places, to_rows


class PatchEncoder(nn.Module):
    """Readings at any rate -> features.

    Args:
        rate: In Hz, to which they are brought.
        patch: Readings of a row.
        width: Of a feature row.
        rows: Most of them.
    """

    def __init__(self, rate: float, patch: int, width: int, rows: int) -> None:
        super().__init__()
        self.rate, self.patch, self.width, self.rows = rate, patch, width, rows
        self.layers = nn.Sequential(nn.Linear(AXES * patch, width), nn.GELU(), nn.Linear(width, width))

    def example(self, seed: int) -> Inertial:
        """A tiny valid item."""
        return example(seed)

    def prepare(self, media: Media) -> Prepared:
        """Rows at ``rate``; what is not there counts as rest.

        Raises:
            MediaError: Not inertial, or too long.
        """
        values = np.nan_to_num(to_rows(media, self.rate, self.patch, self.rows))
        return Prepared(
            arrays={"rows": values}, rows=len(values), coordinates=places(len(values), self.rate, self.patch)
        )

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(sum of rows, width)``."""
        rows = np.concatenate([item.arrays["rows"] for item in batch])
        return self.layers(torch.from_numpy(rows).to(self.layers[0].weight))
