"""Codecs with one fault each; ``faults.py`` says which check has to notice it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from good import GoodCodec, GoodVectors, Stream, Trace, places

from anyany.plugin import Codes, Coordinates, Vectors


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


class NoLoss(GoodCodec):
    @property
    def loss(self):
        raise AttributeError("loss")


class BelowZero(GoodCodec):
    def encode(self, batch):
        return super().encode(batch) - 1


class LongFails(GoodCodec):
    """Gives no media of more rows than are planned, though media may have more."""

    def decode(self, latents, like=None):
        return super().decode(latents, like) if len(latents) <= 7 else latents


class SingleFails(GoodCodec):
    can: ClassVar = {"streaming": False}

    def decode(self, latents, like=None):
        if len(latents) == 1:
            raise ValueError("one")
        return super().decode(latents, like)


class StraysBehind(GoodCodec):
    """Each part that follows another starts from another noise."""

    def decode(self, latents, like=None):
        made = super().decode(latents).values
        return Trace(made if like is None else made + np.random.default_rng().normal(size=len(made)))


class Overhears(GoodCodec):
    """What it makes depends on how many others have asked."""

    can: ClassVar = {"streaming": False}

    def prepare(self, media, like=None):
        self.asked = getattr(self, "asked", 0) + 1
        return super().prepare(media, like)

    def decode(self, latents, like=None):
        asked, self.asked = getattr(self, "asked", 0), 0
        return Trace(super().decode(latents).values + asked)


class HidesShift(GoodCodec):
    """What moves its media lies beside its weights."""

    def __init__(self):
        super().__init__()
        self.moved = torch.rand((), device="cpu").item()

    def decode(self, latents, like=None):
        return Trace(super().decode(latents).values + self.moved)


class StreamsMoved(GoodCodec):
    def stream(self, like=None):
        return Moved(self)


class Moved(Stream):
    def push(self, latents):
        return Trace(self.codec.decode(latents).values + 1)


class ShortPlan(GoodCodec):
    """Says where four of seven rows lie."""

    def plan(self, like=None):
        return replace(super().plan(), coordinates=places(4))


class PlansAhead(GoodCodec):
    can: ClassVar = {"streaming": False}

    def plan(self, like=None):
        return replace(super().plan(), rows=16_383, coordinates=places(16_383))


class Deaf(GoodVectors):
    """Promises to use quantiles, and takes them alone."""

    def decode(self, latents, like=None, quantiles=None):
        return super().decode(latents, like)


class InfiniteVectors(GoodVectors):
    def encode(self, batch):
        return super().encode(batch) / 0


class NothingThere(GoodVectors):
    """Says of each number that it is not there."""

    def encode(self, batch):
        return super().encode(batch) * torch.nan


class HalfThere(GoodVectors):
    """One of two numbers never is there."""

    declares: ClassVar = {"latents": Vectors(dim=2)}

    def __init__(self):
        super().__init__()
        self.latents = Vectors(dim=2)

    def encode(self, batch):
        made = super().encode(batch)
        return torch.cat([made, made * torch.nan], 1)


class Drifts(GoodVectors):
    """Its scale runs away after a while."""

    def encode(self, batch):
        self.calls = getattr(self, "calls", 0) + 1
        return super().encode(batch) * max(1, self.calls - 18)
