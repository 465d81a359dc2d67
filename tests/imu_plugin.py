"""A plugin that lives outside the core and adds a modality that the core has never heard of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from anyany.errors import MediaError
from anyany.parts import Media
from anyany.plugin import (
    CodecSpec,
    Codes,
    Coordinates,
    EncoderSpec,
    Item,
    Mean,
    MetricSpec,
    ModalitySpec,
    Plan,
    Prepared,
    Task,
    TaskSpec,
    Vectors,
    hookimpl,
)

ANYANY_API = 1


@dataclass(frozen=True, eq=False)
class Imu(Media):
    """Readings ``(T, 3)`` at ``rate``."""

    modality: ClassVar[str] = "imu"
    readings: np.ndarray
    rate: float = 50.0


def readings(media: Media) -> np.ndarray:
    if not isinstance(media, Imu):
        raise MediaError(f"imu: expected an Imu, got {type(media).__name__}")
    return media.readings


class ImuEncoder(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(3, width)

    def example(self, seed: int) -> Imu:
        return Imu(np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32))

    def prepare(self, media: Imu) -> Prepared:
        times = np.arange(len(readings(media)), dtype=np.float32) / media.rate
        values = np.stack([times, np.zeros_like(times), np.zeros_like(times)], axis=1)
        return Prepared(
            arrays={"x": media.readings},
            rows=len(media.readings),
            coordinates=Coordinates(values=values, unit="seconds"),
        )

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        return self.linear(torch.from_numpy(np.concatenate([p.arrays["x"] for p in batch])).to(self.linear.weight))


class ImuCodec(nn.Module):
    """Signs of the three axes as codes, or the readings themselves as vectors."""

    def __init__(self, kind: str = "codes", rows: int = 6, fixed: bool = False) -> None:
        super().__init__()
        self.kind, self.rows, self.fixed = kind, rows, fixed
        if kind == "codes":
            self.latents: Codes | Vectors = Codes(vocab=8, books=1)
        elif kind == "books":
            self.latents = Codes(vocab=2, books=3)
        else:
            self.latents = Vectors(dim=3, objective=kind)

    def example(self, seed: int) -> Imu:
        return Imu(np.random.default_rng(seed).normal(size=(self.rows, 3)).astype(np.float32))

    def prepare(self, media: Imu, like: Imu | None = None) -> Prepared:
        return Prepared(
            arrays={"x": readings(media)}, rows=len(media.readings),
            look="full" if self.kind == "flow-span" else "causal",
        )  # fmt: skip

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        x = torch.from_numpy(np.concatenate([p.arrays["x"] for p in batch])).float()
        if self.kind == "codes":
            return ((x > 0).long() * torch.tensor([1, 2, 4])).sum(dim=1, keepdim=True)
        return (x > 0).long() if self.kind == "books" else x

    def plan(self, like: Imu | None = None) -> Plan:
        return Plan(rows=self.rows, fixed=self.fixed)

    def decode(self, latents: Tensor, like: Imu | None = None) -> Imu:
        if self.kind == "codes":
            latents = torch.cat([(latents // b) % 2 for b in (1, 2, 4)], dim=1)
        if isinstance(self.latents, Codes):
            latents = latents * 2 - 1
        return Imu(latents.float().numpy())

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        return {"nothing": torch.zeros(())}


def build_encoder(width: int = 8) -> ImuEncoder:
    return ImuEncoder(width)


def build_codec(kind: str = "codes", rows: int = 6, fixed: bool = False) -> ImuCodec:
    return ImuCodec(kind, rows, fixed)


def build_task(count: int = 5) -> Task:
    """Say it again."""
    made = [ImuCodec().example(seed) for seed in range(count)]
    items = [
        Item(prompt=[m, "hello"], references=((m,),), want=("imu",), baseline=(Imu(np.zeros_like(m.readings)),))
        for m in made
    ]
    return Task(items=items, metrics=("imu/error",), baseline="rest", judge="the same readings")


def build_metric(scale: float = 1.0) -> Mean:
    """Mean absolute error over the rows that both have."""

    def measure(answer: Imu, references: Sequence[Imu], prompt: Sequence[object]) -> float:
        rows = min(len(answer.readings), len(references[0].readings))
        return scale * float(np.abs(answer.readings[:rows] - references[0].readings[:rows]).mean())

    return Mean(measure)


@hookimpl
def anyany_modalities():
    yield ModalitySpec(name="imu", media="imu_plugin:Imu", axes=("time", "axis"), units={"rate": "Hz"})


@hookimpl
def anyany_encoders():
    yield EncoderSpec(id="imu/linear", modality="imu", factory="imu_plugin:build_encoder")


@hookimpl
def anyany_codecs():
    yield CodecSpec(id="imu/signs", modality="imu", factory="imu_plugin:build_codec", latents=Codes(vocab=8))


@hookimpl
def anyany_tasks():
    yield TaskSpec(id="imu/again", factory="imu_plugin:build_task", description="readings -> the same")


@hookimpl
def anyany_metrics():
    yield MetricSpec(id="imu/error", modality="imu", factory="imu_plugin:build_metric", higher_is_better=False)
