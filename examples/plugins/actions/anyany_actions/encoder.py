"""The encoder: one row per observation, with waves that make small differences large (arXiv 2006.10739)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.parts import Media
from anyany.plugin import Prepared
from anyany_actions.media import Observation


class NumbersEncoder(nn.Module):
    """Observations -> features.

    Args:
        numbers: Of an observation.
        scale: What brings each of them to about -1 to 1.
        octaves: Waves of each number, from one over that range on.
        width: Of a feature row.
    """

    def __init__(self, numbers: int, scale: Sequence[float], octaves: int, width: int) -> None:
        super().__init__()
        self.numbers, self.width = numbers, width
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.register_buffer("waves", torch.pi * 2.0 ** torch.arange(octaves), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(numbers * (1 + 2 * octaves), width), nn.GELU(), nn.Linear(width, width)
        )  # fmt: skip

    def example(self, seed: int) -> Observation:
        """A tiny valid item."""
        return Observation(np.random.default_rng(seed).uniform(-1, 1, self.numbers))

    def prepare(self, media: Media) -> Prepared:
        """One row.

        Raises:
            MediaError: No observation, or of another number of numbers.
        """
        return Prepared(arrays={"values": Observation.numbers(media, self.numbers)}, rows=1)

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(number of items, width)``."""
        values = torch.from_numpy(np.stack([item.arrays["values"] for item in batch])).to(self.scale) * self.scale
        turns = (values[..., None] * self.waves).flatten(1)  # (B, numbers * octaves)
        return self.layers(torch.cat([values, turns.sin(), turns.cos()], dim=1).to(self.layers[0].weight))
