"""Points of a plane, a row for each."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from anyany.errors import MediaError
from anyany.parts import Media
from anyany.plugin import Item, Mean, Plan, Prepared, Task, Vectors


@dataclass(frozen=True, eq=False)
class Drift(Media):
    modality: ClassVar[str] = "drift"
    points: np.ndarray

    def __post_init__(self):
        self._freeze(points=np.asarray(self.points, np.float32))


class Codec(nn.Module):
    latents = Vectors(dim=2, objective="flow")

    def example(self, seed):
        return Drift(np.random.default_rng(seed).normal(size=(4 + seed % 2, 2)))

    def prepare(self, media, like=None):
        if not isinstance(media, Drift):
            raise MediaError(f"drift: expected a Drift, got {type(media).__name__}")
        return Prepared(arrays={"x": media.points}, rows=len(media.points))

    def encode(self, batch):
        return torch.from_numpy(np.concatenate([item.arrays["x"] for item in batch]))

    def plan(self, like=None):
        return Plan(rows=5, fixed=False)

    def decode(self, latents, like=None):
        return Drift(latents.float().cpu().nan_to_num().numpy())

    def loss(self, batch):
        return {"nothing": torch.zeros(())}


def again():
    made = [Codec().example(seed) for seed in range(3)]
    items = [Item(prompt=[one], references=((one,),), want=("drift",)) for one in made]
    return Task(items=items, metrics=("drift/error",), judge="the same points")


def error():
    def measure(answer, references, prompt):
        both = min(len(answer.points), len(references[0].points))
        return float(np.abs(answer.points[:both] - references[0].points[:both]).mean())

    return Mean(measure)
