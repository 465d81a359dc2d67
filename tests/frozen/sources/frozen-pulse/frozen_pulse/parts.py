"""A row for each beat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from anyany.errors import MediaError
from anyany.parts import Media
from anyany.plugin import Coordinates, Prepared


@dataclass(frozen=True, eq=False)
class Pulse(Media):
    modality: ClassVar[str] = "pulse"
    values: np.ndarray

    def __post_init__(self):
        self._freeze(values=np.asarray(self.values, np.float32))


class Encoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.inner, self.outer = nn.Linear(1, width), nn.Linear(width, width)

    def example(self, seed):
        return Pulse(np.random.default_rng(seed).normal(70, 10, 4 + seed % 3))

    def prepare(self, media):
        if not isinstance(media, Pulse):
            raise MediaError(f"pulse: expected a Pulse, got {type(media).__name__}")
        values = media.values[:, None] / 100
        places = np.arange(len(values), dtype=np.float32)[:, None] * np.array([[1, 0, 0]], np.float32)
        return Prepared(
            arrays={"x": values}, rows=len(values), coordinates=Coordinates(values=places, unit="seconds"), look="full"
        )

    def forward(self, batch):
        x = torch.from_numpy(np.concatenate([item.arrays["x"] for item in batch])).to(self.inner.weight)
        return self.outer(torch.tanh(self.inner(x)))
