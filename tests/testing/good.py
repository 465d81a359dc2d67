"""A modality that keeps the contract: an encoder, and a codec that streams. Faults are made of it in ``broken.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from anyany.errors import MediaError
from anyany.parts import Media
from anyany.plugin import Codes, Coordinates, Plan, Prepared, Vectors

MOST = 40


@dataclass(frozen=True, eq=False)
class Trace(Media):
    """A line ``(T,)`` of numbers."""

    modality: ClassVar[str] = "trace"
    values: np.ndarray

    def __post_init__(self):
        self._freeze(values=np.asarray(self.values, np.float32))


class Component(nn.Module):
    def example(self, seed):
        return Trace(np.random.default_rng(seed).normal(size=6 + seed % 3))

    def read(self, media):
        if not isinstance(media, Trace):
            raise MediaError(f"trace: expected a Trace, got {type(media).__name__}")
        if len(media.values) > MOST:
            raise MediaError(f"trace: at most {MOST} values, got {len(media.values)}")
        return media.values[:, None]

    def prepare(self, media, like=None):
        values = self.read(media)
        return Prepared(arrays={"x": values}, rows=len(values), coordinates=places(len(values)))


def places(rows):
    return Coordinates(values=np.arange(rows, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32))


def numbers(batch: Sequence[Prepared], weight: Tensor) -> Tensor:
    """The numbers of all items ``(rows, 1)``, where the weight is and of its type."""
    return torch.from_numpy(np.concatenate([p.arrays["x"] for p in batch])).to(weight)


class Good(Component):
    """An encoder: a row for each number."""

    def __init__(self, width=8):
        super().__init__()
        self.width = width
        self.inner, self.outer = nn.Linear(1, width), nn.Linear(width, width)

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        return self.outer(torch.tanh(self.inner(numbers(batch, self.inner.weight))))


class GoodCodec(Component):
    """Eight levels from -2 to 2, which it can shift."""

    def __init__(self):
        super().__init__()
        self.latents = Codes(vocab=8)
        self.shift = nn.Parameter(torch.randn(()) * 0.1)

    def encode(self, batch):
        return ((numbers(batch, self.shift) - self.shift + 2) * 2).long().clamp(0, 7)

    def plan(self, like=None):
        return Plan(rows=7, fixed=False, coordinates=places(7))

    def values(self, latents):
        return (latents[:, 0] / 2 - 2 + self.shift.detach()).numpy()

    def decode(self, latents, like=None):
        return Trace(self.values(latents))

    def loss(self, batch):
        x = numbers(batch, self.shift)
        return {"shift": (x - (self.encode(batch) / 2 - 2 + self.shift)).square().mean()}

    def stream(self, like=None):
        return Stream(self)


class GoodVectors(GoodCodec):
    """A number for each number, shifted as it has learned; quantiles give their upper end."""

    can: ClassVar = {"streaming": False, "quantiles": True}
    declares: ClassVar = {"latents": Vectors(dim=1)}

    def __init__(self):
        super().__init__()
        self.latents = Vectors(dim=1)

    def encode(self, batch):
        return numbers(batch, self.shift) - self.shift.detach()

    def decode(self, latents, like=None, quantiles=None):
        made = latents if quantiles is None else quantiles[..., -1]
        return Trace(made[:, 0].nan_to_num() + self.shift.detach())

    def loss(self, batch):
        return {"shift": (numbers(batch, self.shift) - self.shift).square().mean()}


class Stream:
    def __init__(self, codec):
        self.codec = codec

    def push(self, latents):
        return self.codec.decode(latents)

    def close(self):
        return None
