"""Which components a run trains, and which it has changed: what stays frozen must stay bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One component of a run.

    Attributes:
        name: Such as ``backbone`` or ``head/image/fsq``.
        parameters: How many numbers it holds; ``trainable``: how many of them are trained.
        norm: Norm of its gradient in the latest step, before clipping; ``None`` where there was none.
        changed: Whether any bit of it differs from the beginning of the run.
    """

    name: str
    parameters: int
    trainable: int
    norm: float | None
    changed: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def digests(components: Mapping[str, nn.Module]) -> dict[str, str]:
    """SHA-256 of all tensors of each component, buffers included."""
    return {name: _digest(component) for name, component in components.items()}


def _digest(component: nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in component.state_dict().items():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def entries(
    components: Mapping[str, nn.Module], begun: Mapping[str, str], norms: Mapping[str, float] | None = None
) -> list[Entry]:
    """The ledger of a run.

    Args:
        components: By name, as they are now.
        begun: Their ``digests`` at the beginning of the run.
        norms: Norms of their gradients.
    """
    now = digests(components)
    return [
        Entry(
            name=name,
            parameters=sum(p.numel() for p in component.parameters()),
            trainable=sum(p.numel() for p in component.parameters() if p.requires_grad),
            norm=(norms or {}).get(name),
            changed=now[name] != begun[name],
        )
        for name, component in components.items()
    ]


def rows(ledger: Sequence[Entry]) -> list[tuple[str, ...]]:
    """The ledger as cells of a table with the columns ``COLUMNS``."""
    return [
        (
            entry.name, f"{entry.parameters:,}", f"{entry.trainable:,}",
            "" if entry.norm is None else f"{entry.norm:.3g}", "changed" if entry.changed else "bit-identical",
        )
        for entry in ledger
    ]  # fmt: skip


COLUMNS = ("component", "parameters", "trainable", "gradient", "since the beginning")
