"""Faults, one at a time: ``config={"fault": NAME}``, and a manifest that differs by a field."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from good import MOST, Good, GoodCodec, Stream, Trace, places
from torch import nn

from anyany.plugin import Capabilities, CodecSpec, Codes, Coordinates, EncoderSpec, ModalitySpec, hookimpl

CAN = Capabilities(dtypes=("float32", "bfloat16"), streaming=True)

# Faults of encoders. Each name is that of the check that has to notice it.


class WrongRows(Good):
    def forward(self, batch):
        made = super().forward(batch)
        return made if len(batch) > 1 else torch.cat([made, made[-1:]])


class MixesItems(Good):
    def forward(self, batch):
        made = super().forward(batch)
        return made - made.mean(0) * (len(batch) > 1)


class Drops(Good):
    def forward(self, batch):
        made, self.calls = super().forward(batch), getattr(self, "calls", 0) + 1
        return made * (1 + 1e-5 * self.calls)


class NegativePlaces(Good):
    def prepare(self, media):
        item = super().prepare(media)
        return replace(item, coordinates=Coordinates(values=item.coordinates.values - 1))


class Untyped(Good):
    def read(self, media):
        return super().read(Trace(media.values))


class DrawsByLot(Good):
    def example(self, seed):
        return Trace(np.random.default_rng().normal(size=6 + seed % 3))


class DrawsGlobally(Good):
    def forward(self, batch):
        np.random.rand()
        return super().forward(batch)


class ChangesDefaults(Good):
    def forward(self, batch):
        torch.set_default_dtype(torch.float64)
        return super().forward(batch)


class Writes(Good):
    def forward(self, batch):
        with open(os.path.join(os.path.dirname(__file__), "left_behind"), "w"):
            return super().forward(batch)


class Warns(Good):
    def forward(self, batch):
        warnings.warn("deprecated", stacklevel=1)
        return super().forward(batch)


class Unused(Good):
    def __init__(self, width=8):
        super().__init__(width)
        self.spare = nn.Linear(1, 1)


class Bare(Good):
    def __init__(self, width=8):
        super().__init__(width)
        self.offset = torch.ones(width)


class Hides(Good):
    """What it learned last lies beside its weights."""

    def __init__(self, width=8):
        super().__init__(width)
        self.offset = torch.rand((), device="cpu").item()

    def forward(self, batch):
        return super().forward(batch) + self.offset


class Fixes32(Good):
    def forward(self, batch):
        return super().forward(batch).float()


class Blind(Good):
    def forward(self, batch):
        return super().forward([replace(p, arrays={"x": np.ones_like(p.arrays["x"])}) for p in batch])


class WritesMedia(Good):
    def read(self, media):
        values = super().read(media).round()
        media.__dict__["values"] = values[:, 0]
        return values


class Weighs(Good):
    def prepare(self, media):
        item = super().prepare(media)
        return replace(item, arrays={"x": item.arrays["x"] * float(self.inner.bias.detach()[0])})


class Tensors(Good):
    def prepare(self, media):
        item = super().prepare(media)
        return replace(item, arrays={**item.arrays, "note": np.array(["a", None], object)})


class NoLimit(Good):
    def read(self, media):
        return super().read(Trace(media.values[:MOST]) if isinstance(media, Trace) else media)


class Counts(Good):
    def __init__(self, width=8):
        super().__init__(width)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, batch):
        self.calls += 1
        return super().forward(batch)


class OnDevice(Good):
    def __init__(self, width=8):
        super().__init__(width)
        self.outer = nn.Linear(width, width, device="cpu")


class NumpyRows(Good):
    def prepare(self, media):
        item = super().prepare(media)
        return replace(item, rows=np.int64(item.rows))


class Infinite(Good):
    def forward(self, batch):
        return super().forward(batch) / 0


class Mislabels(Good):
    def __init__(self, width=8):
        super().__init__(width)
        self.width = 9


class Remembers(Good):
    def read(self, media):
        if not isinstance(media, Trace):
            self.scale = 2.0
        return super().read(media)

    def forward(self, batch):
        return super().forward(batch) * getattr(self, "scale", 1.0)


class SharesArrays(Good):
    """What one thread prepares lies where another one prepares as well."""

    def read(self, media):
        self.values = super().read(media)
        time.sleep(0.002)
        return self.values


class SharesInput(Good):
    def forward(self, batch):
        self.batch = batch
        time.sleep(0.002)
        return super().forward(self.batch)


class Seedless(Good):
    def __init__(self, width=8):
        super().__init__(width)
        self.inner.weight.data += float(np.random.default_rng().normal())


class Grows(Good):
    def forward(self, batch):
        if self.training and not hasattr(self, "steps"):
            self.register_buffer("steps", torch.zeros(()))
        return super().forward(batch)


class Unset(Good):
    def __init__(self, width=8):
        super().__init__(width)
        self.register_buffer("lowest", torch.tensor(torch.nan))


class KeepsGraph(Good):
    def forward(self, batch):
        with torch.enable_grad():
            return super().forward(batch)


# Faults of codecs.


class LossOfRows(GoodCodec):
    def loss(self, batch):
        return {"shift": super().loss(batch)["shift"].expand(3)}


class MakesTooMuch(GoodCodec):
    def decode(self, latents, like=None):
        return Trace(self.values(latents).repeat(6))


class WritesLike(GoodCodec):
    def decode(self, latents, like=None):
        if like is not None:
            like.__dict__["values"] = like.values.round()
        return super().decode(latents)


class FloatCodes(GoodCodec):
    def encode(self, batch):
        return super().encode(batch).float()


class NumpyPlan(GoodCodec):
    def plan(self, like=None):
        return replace(super().plan(), rows=np.int64(7))


class AlwaysSeven(GoodCodec):
    def plan(self, like=None):
        return replace(super().plan(), fixed=True)


class TooHigh(GoodCodec):
    def encode(self, batch):
        return super().encode(batch) + 8 * (super().encode(batch) == 7)


class AnotherPlan(GoodCodec):
    def plan(self, like=None):
        return replace(super().plan(), coordinates=Coordinates(values=places(7).values * 2))


class OneRowFails(GoodCodec):
    def decode(self, latents, like=None):
        if len(latents) == 2:
            raise ValueError("two")
        return super().decode(latents, like)


class Strays(GoodCodec):
    """Each call starts from another noise."""

    def decode(self, latents, like=None):
        return Trace(
            super().decode(latents).values + np.random.default_rng().normal(size=len(latents)).astype(np.float32)
        )


class Holds(GoodCodec):
    def loss(self, batch):
        return {"shift": super().loss(batch)["shift"].detach() + 0 * self.shift}


class Lags(Stream):
    """Gives everything at the end."""

    def __init__(self, codec):
        super().__init__(codec)
        self.rows = []

    def push(self, latents):
        self.rows.append(latents)

    def close(self):
        return self.codec.decode(torch.cat(self.rows))


class StreamsLate(GoodCodec):
    def stream(self, like=None):
        return Lags(self)


class Loses(Stream):
    def push(self, latents):
        return self.codec.decode(latents[:5])


class StreamsWrong(GoodCodec):
    def stream(self, like=None):
        return Loses(self)


class Shares(Stream):
    """Keeps its place in the codec, where other streams keep theirs as well."""

    def push(self, latents):
        latest, self.codec.latest = getattr(self.codec, "latest", None), self
        return self.codec.decode(latents * (latest in (None, self)))

    def close(self):
        self.codec.latest = None


class StreamsShare(GoodCodec):
    def stream(self, like=None):
        return Shares(self)


class Rounds(GoodCodec):
    """Says that it speaks other latents than its spec states."""

    def __init__(self):
        super().__init__()
        self.latents = Codes(vocab=9)


ENCODERS: dict[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (
        Good, WrongRows, MixesItems, Drops, NegativePlaces, Untyped, DrawsByLot, DrawsGlobally, ChangesDefaults, Writes,
        Warns, Unused, Bare, Hides, Fixes32, Blind, WritesMedia, Weighs, Tensors, NoLimit, Counts, OnDevice, NumpyRows,
        Infinite, Mislabels, Remembers, SharesArrays, SharesInput, Seedless, Grows, Unset, KeepsGraph,
    )
}  # fmt: skip
CODECS: dict[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (
        GoodCodec, TooHigh, AnotherPlan, OneRowFails, Strays, Holds, Rounds, LossOfRows, MakesTooMuch, WritesLike,
        FloatCodes, NumpyPlan, AlwaysSeven, StreamsLate, StreamsWrong, StreamsShare,
    )
}  # fmt: skip


def build(fault: str, beside: object = None) -> nn.Module:
    return ENCODERS[fault]() if fault in ENCODERS else CODECS[fault]()


class Manifest:
    """Registered by hand: what it declares differs by one fault."""

    ANYANY_API = 1

    def __init__(self, fault: str, **fields: Any) -> None:
        self.fault, self.fields = fault, fields

    @hookimpl
    def anyany_modalities(self):
        yield ModalitySpec(name="trace", media="broken:Trace", axes=("time",))

    @hookimpl
    def anyany_encoders(self):
        if self.fault in ENCODERS:
            given = {"modality": "trace", "factory": "broken:build", "config": {"fault": self.fault}}
            yield EncoderSpec(id="trace/in", **(given | {"can": replace(CAN, streaming=False)} | self.fields))

    @hookimpl
    def anyany_codecs(self):
        if self.fault in CODECS:
            given = {"modality": "trace", "factory": "broken:build", "config": {"fault": self.fault}}
            can = replace(CAN, dtypes=("float32",))
            yield CodecSpec(id="trace/out", latents=Codes(vocab=8), **(given | {"can": can} | self.fields))
