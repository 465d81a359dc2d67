"""The encoder: a row for each note, which lies where it sounds.

Shapes: n notes of all items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.parts import Media
from anyany.plugin import Coordinates, Prepared
from anyany_midi.events import VOCAB, to_events
from anyany_midi.media import Notes, example


class NoteEncoder(nn.Module):
    """A table for each of pitch, step and length; the backbone relates the notes.

    Args:
        width: Of a row.
        rows: Most notes of a part.
    """

    def __init__(self, width: int, rows: int) -> None:
        super().__init__()
        self.width, self.rows = width, rows
        self.tables = nn.ModuleList(nn.Embedding(VOCAB, width) for _ in range(3))

    def example(self, seed: int) -> Notes:
        """A tiny valid item."""
        return example(seed)

    def prepare(self, media: Media) -> Prepared:
        """Events, and the seconds at which they begin.

        Raises:
            MediaError: As of ``to_events``.
        """
        events = to_events(media, self.rows)
        places = np.zeros((len(events), 3), np.float32)
        places[:, 0] = media.notes[:, 1] * 60 / media.tempo
        return Prepared(
            arrays={"events": events}, rows=len(events), coordinates=Coordinates(values=places, unit="seconds")
        )

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """``(n, width)``."""
        events = torch.from_numpy(np.concatenate([item.arrays["events"] for item in batch]))
        columns = events.to(self.tables[0].weight.device).T
        return sum(table(column) for table, column in zip(self.tables, columns, strict=True))
