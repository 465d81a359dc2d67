"""LoRA: what an adapter adds to projections, row by row of whoever asked for it (arXiv 2106.09685).

An adapter replaces no module: ``attach`` hooks the plain ``nn.Linear`` modules that any adapter touches, and the hook
adds ``scale * up(down(x))`` for the adapters that are in use. So the weights of the base stay bit for bit, its
checkpoints know nothing of adapters, and one pass can serve requests that use different ones.

Shapes: T rows of a pass, r rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class LoRA(nn.Module):
    """One adapter: two thin matrices for each projection that it touches. A new one changes nothing.

    Args:
        layers: Projections by name.
        rank: r.
        alpha: The product of the two is scaled by ``alpha / rank``.
    """

    def __init__(self, layers: Mapping[str, nn.Linear], *, rank: int, alpha: float) -> None:
        super().__init__()
        self.rank, self.alpha, self.scale = rank, alpha, alpha / rank
        self.layers = dict(layers)  # no modules of the adapter: their weights belong to the base
        # In float32 whatever the base is in: steps of training are smaller than bfloat16 can tell apart.
        kinds = [{"dtype": torch.float32, "device": linear.weight.device} for linear in layers.values()]
        sizes = [(linear.in_features, linear.out_features) for linear in layers.values()]
        self.down = nn.ParameterList([torch.empty(rank, i, **k) for (i, _), k in zip(sizes, kinds, strict=True)])
        self.up = nn.ParameterList([torch.zeros(o, rank, **k) for (_, o), k in zip(sizes, kinds, strict=True)])
        for matrix in self.down:
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))
        self._index = {linear: index for index, linear in enumerate(layers.values())}

    def matrices(self) -> Iterator[tuple[str, nn.Linear, Tensor, Tensor]]:
        """Name, projection, ``down (r, inputs)`` and ``up (outputs, r)``."""
        for (name, linear), down, up in zip(self.layers.items(), self.down, self.up, strict=True):
            yield name, linear, down, up

    def touches(self, linear: nn.Module) -> bool:
        """Whether it adds anything to a projection."""
        return linear in self._index

    def add(self, linear: nn.Module, x: Tensor, out: Tensor) -> Tensor:
        """``out (..., outputs)`` of a projection that it touches, and what it makes of ``x (..., inputs)``."""
        index = self._index[linear]
        down, up = self.down[index], self.up[index]
        inner = (x.reshape(-1, x.shape[-1]).to(down.dtype) @ down.t()).to(out.dtype)  # (T, r)
        widen = up.t().to(out.dtype)  # (r, outputs)
        if torch.is_grad_enabled():  # of rows in order the gradient takes a third of the time; a copy is small
            widen = widen.contiguous()
        return torch.addmm(out.reshape(-1, out.shape[-1]), inner, widen, alpha=self.scale).view_as(out)

    def change(self, linear: nn.Module) -> Tensor:
        """What the adapter would add to the weights ``(outputs, inputs)`` of a projection that it touches."""
        index = self._index[linear]
        return (self.scale * (self.up[index] @ self.down[index])).to(linear.weight.dtype)  # type: ignore[arg-type]


Segments = Sequence[tuple[LoRA | None, int]]
"""Adapters of the rows of a pass, in order: each with how many rows are its own."""

_used: ContextVar[LoRA | Segments | None] = ContextVar("lora", default=None)


@contextmanager
def using(adapter: LoRA | Segments | None) -> Iterator[None]:
    """Within it, projections use an adapter for all rows, or each row of a pass its own.

    It holds for this thread alone, and says of projections that it does not touch nothing.
    """
    token = _used.set(() if adapter is None else adapter)
    try:
        yield
    finally:
        _used.reset(token)


def current(default: Callable[[], LoRA | None]) -> list[LoRA]:
    """The adapters that are in use; ``default`` tells the one where nobody is ``using`` any."""
    used = _used.get()
    if used is None:
        used = default()
    segments = [(used, 0)] if isinstance(used, LoRA) else used or ()
    return [adapter for adapter, _ in segments if adapter is not None]


def attach(linear: nn.Linear, default: Callable[[], LoRA | None]) -> RemovableHandle:
    """Make a projection heed adapters.

    Args:
        linear: The projection.
        default: Tells the adapter where nobody is ``using`` any.
    """

    def hook(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        used = _used.get()
        if used is None:
            used = default()
        if used is None or not isinstance(used, LoRA):
            return _by_segments(module, args[0], out, used or ())
        return used.add(module, args[0], out) if used.touches(module) else out

    def idle() -> bool:
        return not any(adapter.touches(linear) for adapter in current(default))

    hook.idle = idle  # type: ignore[attr-defined]  # whoever reads the weights without a call asks first
    return linear.register_forward_hook(hook)


def _by_segments(linear: nn.Module, x: Tensor, out: Tensor, segments: Segments) -> Tensor:
    """Each stretch of rows ``(T, ...)`` through its own adapter."""
    if not any(adapter is not None and adapter.touches(linear) for adapter, _ in segments):
        return out
    pieces, start = [], 0
    for adapter, rows in segments:
        own, stop = out[start : start + rows], start + rows
        touched = adapter is not None and adapter.touches(linear)
        pieces.append(adapter.add(linear, x[start:stop], own) if touched else own)  # type: ignore[union-attr]
        start = stop
    return torch.cat(pieces)
