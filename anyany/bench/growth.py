"""Laws of growth: some sizes of one thing, measured in turns, and the slope of time against size beside the law.

A slope is that of the logarithms: 1 is time in proportion to size, 0 is time that does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyany.backbone.ops import interval_attention
from anyany.bench.layout import pack
from anyany.bench.measure import rounds_of
from anyany.bench.twins import twins

Size = tuple[float, float, Callable[[], object]]
"""What is varied, the work that this size is, and a call that does it; time is counted for each unit of work."""
HEADS, WIDTH = 4, 64
CONTEXT = 1024


@dataclass(frozen=True)
class Law:
    """How something should grow.

    Attributes:
        what: Time of what, against which size.
        sizes: Makes the sizes.
        slope: Lowest and highest that are within the law.
    """

    what: str
    sizes: Callable[[], Sequence[Size]]
    slope: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How it does grow.

    Attributes:
        id: Of the law.
        what: Time of what, against which size.
        points: Sizes, and median seconds.
        slope: Fitted.
        law: Lowest and highest that are within the law.
    """

    id: str
    what: str
    points: tuple[tuple[float, float], ...]
    slope: float
    law: tuple[float, float]

    @property
    def held(self) -> bool:
        """Whether the slope is within the law."""
        return self.law[0] <= self.slope <= self.law[1]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "held": self.held}


def grow(rounds: int) -> Iterator[Growth]:
    """Every law, as it is measured."""
    for name, law in LAWS.items():
        sizes = law.sizes()
        with torch.inference_mode():
            times = np.median(rounds_of([call for *_, call in sizes], rounds), axis=0).tolist()
        points = tuple((size, spent / work) for (size, work, _), spent in zip(sizes, times, strict=True))
        yield Growth(id=name, what=law.what, points=points, slope=slope(points), law=law.slope)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through the logarithms that has the least squares."""
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def _documents() -> list[Size]:
    """8,192 rows in eight documents, four, two, one."""
    rows, sizes = torch.arange(8192, dtype=torch.int32), []
    for length in (1024, 2048, 4096, 8192):
        pairs, call = _attention(torch.stack([rows // length * length, rows + 1], 1))
        sizes.append((pairs, 1.0, call))
    return sizes


def _spans() -> list[Size]:
    """1 to 256 spans that look both ways, a quarter of 4,096 rows in all."""
    rows, sizes = torch.arange(4096, dtype=torch.int32), []
    for count in (1, 4, 16, 64, 256):
        stride = len(rows) // count
        begin = rows // stride * stride
        end = torch.where(rows - begin < stride // 4, begin + stride // 4, rows + 1)
        sizes.append((count, *_attention(torch.stack([torch.zeros_like(rows), end], 1))))
    return sizes


def _attention(own: Tensor) -> tuple[float, Callable[[], object]]:
    """How many keys all rows see together, and a pass over them."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(len(own), HEADS, WIDTH) for _ in range(3))
    intervals = torch.stack([torch.zeros_like(own), own], 1)
    return float((own[:, 1] - own[:, 0]).sum()), lambda: interval_attention(q, k, v, intervals)


def _capacities() -> list[Size]:
    """A row behind 1,024 others, in pools of 1,280 rows and more."""
    return [(capacity, 1.0, _row(CONTEXT, capacity)) for capacity in (1280, 4096, 16384, 65536)]


def _contexts() -> list[Size]:
    """A row behind 256 others and more: the bytes of weights and cache that it reads."""
    pair = twins("10m")
    pool = pair.ours.backbone.new_pool(1)
    return [(pair.read() + n * pool.memory(), 1.0, _row(n, n + 1)) for n in (256, 1024, 4096, 16384)]


def _row(context: int, capacity: int) -> Callable[[], object]:
    """A pass of one row of the model of 10 M."""
    backbone = twins("10m").ours.backbone
    pool = backbone.new_pool(capacity)
    pool.append(pool.reserve(capacity), context + 1)
    for kept in (pool.keys, pool.values):
        kept[:, : context + 1].normal_()
    x, place = torch.randn(1, backbone.width), torch.full((1, 3), float(context))
    intervals = torch.tensor([[[0, 0], [0, context + 1]]], dtype=torch.int32)
    slots = slice(context, context + 1)
    return lambda: backbone(x, place, intervals, cache=pool, slots=slots)


def _parts() -> list[Size]:
    return [(parts, 1.0, pack(parts)) for parts in (1000, 2000, 5000, 10000)]


LAWS = {
    "attention-keys": Law(
        "attention over packed documents, against the keys that all rows see", _documents, (0.77, 1.1)
    ),
    "attention-spans": Law("attention for each key that is seen, against the spans", _spans, (-0.1, 0.017)),
    "decode-capacity": Law("a decoded row, against the rows of the pool", _capacities, (-0.1, 0.0125)),
    "decode-bytes": Law("a decoded row, against the bytes of weights and cache that it needs", _contexts, (0.0, 1.5)),
    "layout-parts": Law("laying out a sequence, against its parts", _parts, (0.8, 1.1)),
}
"""By id. 0.77: eight documents take at most a fifth of the time of one; 0.017: 256 spans at most a tenth more than one;
0.0125: a pool of 65,536 rows at most a twentieth more than one of 1,280."""
