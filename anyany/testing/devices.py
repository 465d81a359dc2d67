"""Does a component follow its weights to another device?

Where there is no GPU the meta device stands for one: it has shapes and no numbers, and what is computed there mixes
with nothing on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from anyany.testing.compare import same
from anyany.testing.kit import demand, hold, listed
from anyany.testing.subject import Subject

SHARE = 1e-2
"""Share of the largest value that a GPU may lose, which multiplies in fewer bits where it is allowed to."""
_MAY_MIX = {"copy_", "_index_put_impl_", "index", "index_put", "index_put_"}
"""Operators that take tensors of two devices by design: copies, and integers on the CPU as an index."""


class _Mixing(TorchDispatchMode):
    """Collects operators that are given tensors of two devices; a single number on the CPU goes with any device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {t.device.type for t in tensors if t.dim() or t.device.type != "cpu"}
        name = func._schema.name.partition("::")[2]
        if len(devices) > 1 and name not in _MAY_MIX:
            self.found.append(f"{name} of {' and '.join(sorted(devices))}")
        return func(*args, **(kwargs or {}))


def _weighs(component: torch.nn.Module) -> bool:
    return any(True for _ in _tensors(component))


def _tensors(component: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from component.named_parameters()
    yield from component.named_buffers()


@demand()
def follows_its_weights(subject: Subject) -> None:
    """Moved to another device, all its tensors are there, and it computes where they are."""
    component = subject.build()
    batch = subject.batch(component)
    component.to("meta")
    left = [name for name, tensor in _tensors(component) if not tensor.is_meta]
    hold(not left, "all tensors on the device", f"{listed(left)} elsewhere", "register parameters and buffers")
    if not _weighs(component):  # arithmetic alone goes wherever its input is
        return
    made = None
    with suppress(RuntimeError), _Mixing() as mixing:  # of a step that asks for numbers; what came before was seen
        made = subject.run(component, batch)
    advice = "make tensors on the device of the weights: x.to(self.weight), torch.arange(n, device=...)"
    hold(not mixing.found, "operators of one device", listed(mixing.found), advice)
    hold(made is None or made.is_meta, "an answer on the device of the weights", getattr(made, "device", ""), advice)


@demand(lambda subject: torch.cuda.is_available())
def gives_the_same_on_a_gpu(subject: Subject) -> None:
    """On a GPU it gives nearly what it gives on the CPU. Where there is a GPU."""
    component = subject.build()
    batch = subject.batch(component)
    wanted = subject.run(component, batch)
    made = subject.run(component.to("cuda"), batch)
    hold(made.is_cuda or not _weighs(component), "an answer on the GPU", made.device, "follow the weights")
    same(made.cpu(), wanted, "about the output on the CPU", "make tensors on the device of the weights", SHARE)
