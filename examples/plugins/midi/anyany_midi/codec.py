"""The codec: three codes for each note. It has no weights; the depth head predicts pitch, step and length in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.parts import Media
from anyany.plugin import Codes, Plan, Prepared
from anyany_midi.events import VOCAB, to_events, to_notes
from anyany_midi.media import Notes, example


class EventCodec(nn.Module):
    """Notes <-> ``(rows, 3)`` codes.

    Args:
        rows: Most notes of a part.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.latents = Codes(vocab=VOCAB, books=3)

    def example(self, seed: int) -> Notes:
        """A tiny valid item."""
        return example(seed)

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """The codes themselves; errors as of ``to_events``."""
        events = to_events(media, self.rows)
        return Prepared(arrays={"events": events}, rows=len(events))

    def plan(self, like: Media | None = None) -> Plan:
        """Up to ``rows`` notes; the model learns where it ends."""
        return Plan(rows=self.rows, fixed=False)

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """Codes ``(sum of rows, 3)``."""
        return torch.from_numpy(np.concatenate([item.arrays["events"] for item in batch]))

    def decode(self, latents: Tensor, like: Media | None = None) -> Notes:
        """Codes ``(n, 3)`` -> notes, for any n and any codes; the tempo is that of ``like``."""
        return to_notes(latents.cpu().numpy(), like)

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """There is nothing to train."""
        return {"nothing": torch.zeros(())}
