"""The codec: each number of an action falls into one of equal bins (RT-1, arXiv 2212.06817). It has no weights.

A choice among n is one number from 0 to n - 1 in n bins, and comes back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.errors import MediaError
from anyany.parts import Media
from anyany.plugin import Codes, Plan, Prepared
from anyany_actions.media import Action


class BinsCodec(nn.Module):
    """Actions <-> one row of codes.

    Args:
        low: Of each number, the middle of its first bin.
        high: Of each number, the middle of its last bin.
        bins: Of each number.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], bins: int) -> None:
        super().__init__()
        self.low, self.high, self.bins = np.asarray(low, np.float32), np.asarray(high, np.float32), bins
        self.latents = Codes(vocab=bins, books=len(low))

    def example(self, seed: int) -> Action:
        """A tiny valid item."""
        return Action(np.random.default_rng(seed).uniform(self.low, self.high))

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """The bins of an action, one row.

        Raises:
            MediaError: No action, of another number of numbers, or beyond ``low`` and ``high``.
        """
        values = Action.numbers(media, len(self.low))
        if (values < self.low).any() or (values > self.high).any():
            raise MediaError(f"action: expected numbers from {self.low} to {self.high}, got {values}; clip them")
        codes = np.rint((values - self.low) / (self.high - self.low) * (self.bins - 1)).astype(np.int64)
        return Prepared(arrays={"codes": codes}, rows=1)

    def plan(self, like: Media | None = None) -> Plan:
        """Always one row."""
        return Plan(rows=1, fixed=True)

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """Codes ``(number of items, numbers)``."""
        return torch.from_numpy(np.stack([item.arrays["codes"] for item in batch]))

    def decode(self, latents: Tensor, like: Media | None = None) -> Action:
        """Codes ``(1, numbers)`` -> an action."""
        share = latents[0].cpu().numpy().astype(np.float32) / (self.bins - 1)
        return Action(self.low + share * (self.high - self.low))

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """There is nothing to train."""
        return {"nothing": torch.zeros(())}
