"""Encoders with one fault each; ``faults.py`` says which check has to notice it."""

from __future__ import annotations

import os
import threading
import time
import warnings
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from good import MOST, Good, Trace
from torch import nn
from torch.nn import functional as F

from anyany.parts import Media
from anyany.plugin import Coordinates


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


class Tupled(Good):
    """Has other weights where its configuration came from JSON, which knows no tuples."""

    def __init__(self, beside):
        super().__init__(8)
        if isinstance(beside, tuple):
            self.spare = nn.Parameter(torch.zeros(()), requires_grad=False)


@dataclass(frozen=True, eq=False)
class Elsewhere(Media):
    modality: ClassVar[str] = "elsewhere"
    values: np.ndarray


class Displaced(Good):
    def example(self, seed):
        return Elsewhere(super().example(seed).values)

    def read(self, media):
        return super().read(Trace(media.values) if isinstance(media, Elsewhere) else media)


class Padded(Good):
    def prepare(self, media):
        item = super().prepare(media)
        return replace(item, arrays={**item.arrays, "pad": np.zeros(17 << 20, np.uint8)})


class Stamps(Good):
    """What it prepares says when it was prepared."""

    def prepare(self, media):
        item = super().prepare(media)
        return replace(item, arrays={**item.arrays, "when": np.array([time.perf_counter_ns()])})


class Locks(Good):
    def __init__(self, width=8):
        super().__init__(width)
        self.lock = threading.Lock()


class Reorders(Good):
    """Brings the shortest item to the front, and forgets to bring it back."""

    def forward(self, batch):
        return super().forward(batch[::-1] if batch[0].rows > batch[-1].rows else batch)


class Infers(Good):
    """Takes another way where nobody learns."""

    def forward(self, batch):
        return super().forward(batch) + 0.1 * torch.is_inference_mode_enabled()


class Narrow(Good):
    """Says that it runs in float64."""

    can: ClassVar = {"dtypes": ("float32", "float64")}

    def forward(self, batch):
        return super().forward(batch).float()


class Stays(Good):
    """Makes a tensor on the CPU, wherever its weights are."""

    def forward(self, batch):
        made = super().forward(batch)
        return made + torch.zeros(len(made), 1, dtype=made.dtype)


class Pairs(Good):
    def forward(self, batch):
        if len(batch) == 2:
            raise ValueError("two")
        return super().forward(batch)


class BlindRows(Good):
    """The same rows for all media, as many of them."""

    def prepare(self, media):
        return super().prepare(Trace(np.ones_like(self.read(media)[:6, 0])))


class Doubles(Good):
    """Two items change each other."""

    def forward(self, batch):
        made = super().forward(batch)
        return made.flip(1) if len(batch) == 2 else made


class Triples(Good):
    def forward(self, batch):
        made = super().forward(batch)
        return made.flip(1) if len(batch) == 3 else made


class Widens(Good):
    """Makes all that is built after it double precision."""

    def __init__(self, width=8):
        super().__init__(width)
        torch.set_default_dtype(torch.float64)


class Grudges(Good):
    """What it refused for its length stays in its memory."""

    def read(self, media):
        if isinstance(media, Trace) and len(media.values) > MOST:
            self.grudge = True
        return super().read(media)

    def forward(self, batch):
        made = super().forward(batch)
        return made.flip(1) if hasattr(self, "grudge") else made


class Detaches(Good):
    def forward(self, batch):
        return super().forward(batch).detach()


class Sticks(Good):
    """Drops for ever once it was trained."""

    def forward(self, batch):
        self.trained = getattr(self, "trained", False) or self.training
        return F.dropout(super().forward(batch), 0.5, self.trained)


class Deviates(Good):
    """Divides by the deviation of an item, which one number does not have."""

    def prepare(self, media):
        item = super().prepare(media)
        x = torch.from_numpy(item.arrays["x"])
        deviation = ((x - x.mean()).square().sum() / (len(x) - 1)).sqrt()
        return replace(item, arrays={"x": ((x - x.mean()) / (deviation + 1e-3)).numpy()})
