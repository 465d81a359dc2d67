"""Sixteen levels from 0 to 1.5, a row for each."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from anyany.errors import MediaError
from anyany.parts import Media
from anyany.plugin import Codes, Plan, Prepared


@dataclass(frozen=True, eq=False)
class Steps(Media):
    modality: ClassVar[str] = "steps"
    values: np.ndarray

    def __post_init__(self):
        self._freeze(values=np.asarray(self.values, np.float32))


class Codec(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = rows
        self.latents = Codes(vocab=16)
        self.step = nn.Parameter(torch.tensor(0.1))

    def example(self, seed):
        return Steps(np.random.default_rng(seed).uniform(0, 1.5, 5 + seed % 2))

    def prepare(self, media, like=None):
        if not isinstance(media, Steps):
            raise MediaError(f"steps: expected Steps, got {type(media).__name__}")
        return Prepared(arrays={"x": media.values[:, None]}, rows=len(media.values))

    def numbers(self, batch):
        return torch.from_numpy(np.concatenate([item.arrays["x"] for item in batch])).to(self.step)

    def encode(self, batch):
        return (self.numbers(batch) / self.step).round().long().clamp(0, 15)

    def plan(self, like=None):
        return Plan(rows=self.rows, fixed=False)

    def decode(self, latents, like=None):
        return Steps((latents[:, 0] * self.step.detach()).cpu().numpy())

    def loss(self, batch):
        return {"levels": (self.numbers(batch) - self.encode(batch) * self.step).square().mean()}

    def stream(self, like=None):
        return Stream(self)


class Stream:
    def __init__(self, codec):
        self.codec = codec

    def push(self, latents):
        return self.codec.decode(latents)

    def close(self):
        return None
