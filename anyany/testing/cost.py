"""What a component costs per row: seconds and bytes. No check: how much is too much only its user knows."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from anyany.testing.codec import any_latents, decode
from anyany.testing.subject import Subject

TIMES = 5


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one call over all examples costs.

    Attributes:
        component: Id.
        call: ``encode``: features of an encoder, latents of a codec; ``decode``: media of as many rows as are planned.
        rows: Of the call.
        seconds: Wall time per row: the median of five calls, with fresh weights, on the device that ``device`` names.
        bytes: Most bytes of tensors that lived at once, beside weights and inputs, per row.
        device: ``cpu``, or the GPU where there is one.
    """

    component: str
    call: str
    rows: int
    seconds: float
    bytes: float
    device: str


def costs(subject: Subject) -> Iterator[Cost]:
    """Of an encoder one figure, of a codec two. Its device is a GPU where there is one.

    Args:
        subject: A component that passes its checks.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    component = subject.build().to(device)
    batch = subject.batch(component)
    made = sum(item.rows for item in batch)
    yield _cost(subject, "encode", made, device, lambda: subject.run(component, batch))
    if subject.decodes:
        latents = any_latents(component, component.plan().rows).to(device)
        yield _cost(subject, "decode", len(latents), device, lambda: decode(component, latents))


def _cost(subject: Subject, call: str, rows: int, device: str, do: Callable[[], object]) -> Cost:
    do()  # what the first call of anything takes, once
    spent = []
    for _ in range(TIMES):
        began = time.perf_counter()
        do()
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
    with _Alive() as alive:
        do()
    return Cost(
        component=subject.spec.id, call=call, rows=rows, seconds=statistics.median(spent) / rows,
        bytes=alive.most / rows, device=device,
    )  # fmt: skip


class _Alive(TorchDispatchMode):
    """Counts the bytes of what operators make, as long as it lives; ``most`` is the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {_place(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and _place(leaf) not in self.known | given:
                self._take(leaf)
        return made

    def _take(self, tensor: Tensor) -> None:
        storage, place, size = tensor.untyped_storage(), _place(tensor), tensor.untyped_storage().nbytes()
        self.known.add(place)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._give, place, size)

    def _give(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.now -= size


def _place(tensor: Tensor) -> int:
    """Where its bytes lie: views share them."""
    return tensor.untyped_storage()._cdata
