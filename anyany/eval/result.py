"""What an evaluation gives: figures, and all that is needed to get them again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anyany._version import __version__
from anyany.engine.request import make_options
from anyany.plugin.records import to_json
from anyany.plugin.registry import Registry
from anyany.training import ledger

if TYPE_CHECKING:
    from anyany.model import Model


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What one metric says.

    Attributes:
        value: ``None`` where no item could be measured.
        n: Items that were measured.
        baseline: The same of the trivial replies; ``None`` where there are none.
        higher_is_better: Which way is up.
    """

    value: float | None
    n: int
    baseline: float | None
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An item without a figure.

    Attributes:
        item: Its number.
        metric: Which could not measure it; empty where there was nothing to measure.
        error: What went wrong.
    """

    item: int
    metric: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """Figures of one task. Two results are equal when all but the seconds is.

    Attributes:
        task: Its id.
        metric: The first metric, whose ``value`` over ``n`` items is the figure of the task.
        value: ``None`` where no item could be measured.
        n: Items that were measured.
        baseline: What to compare it with.
        judge: What makes a reply right.
        figures: By metric; empty for tasks of the core that judge in their own way.
        more: Other figures of such tasks.
        failures: Of items, each with its error.
        seed: Of the first item; item i has ``seed + i``.
        options: Of generation as they were in effect, with the sampling rules of each modality.
        model: SHA-256 of all weights, the adapter in use among them.
        versions: Of anyany, torch, numpy, and of each plugin that was loaded.
        seconds: How long it took.
    """

    task: str
    metric: str
    value: float | None
    n: int
    baseline: str = ""
    judge: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    seed: int
    options: Mapping[str, Any]
    model: str
    versions: Mapping[str, str]
    seconds: float = field(compare=False)

    @property
    def failed(self) -> int:
        """Items that are not in every figure."""
        return len({failure.item for failure in self.failures})

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "failed": self.failed}


def digest(model: Model, adapter: str | None = None) -> str:
    """SHA-256 of all weights, and of the adapter that is asked for or in use."""
    total = hashlib.sha256()
    for name, of_component in sorted(ledger.digests(model.components).items()):
        total.update(f"{name} {of_component}".encode())
    if (chosen := model.adapters.chosen(adapter)) is not None:
        for layer, _, down, up in chosen.matrices():
            total.update(f"{layer} {chosen.scale}".encode())
            for matrix in (down, up):
                total.update(matrix.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def versions(plugins: Registry) -> dict[str, str]:
    """Of anyany, torch and numpy, and by name of each plugin that is loaded; empty for what has none."""
    loaded = {f"plugin {r.name}": r.version for r in plugins.records if r.status == "ok"}
    return {"anyany": __version__, "torch": torch.__version__, "numpy": np.__version__, **loaded}


def in_effect(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of generation with all defaults, as JSON.

    Raises:
        RequestError: An option that does not exist, or a value out of range.
    """
    made = make_options(model.emits, model.generation, 0, options)
    rules = {name: {k: v for k, v in to_json(rule).items() if k != "kind"} for name, rule in made.sampling.items()}
    return {
        "max_new_tokens": made.max_new_tokens, "budgets": dict(made.budgets), "max_parts": made.max_parts,
        "stop": list(made.stop), "adapter": made.adapter, "sampling": rules,
        **({"weights": model.backbone.weights} if model.backbone.weights else {}),
    }  # fmt: skip
