"""The optimiser and its schedule.

Each component has its own learning rate. Weight decay reaches matrices only: a decayed norm, bias or mark
embedding drifts towards zero without making the model simpler. The schedule is a pure function of the step,
so that a run that was cut off goes on exactly as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anyany.errors import CheckpointError, RecipeError
from anyany.training.sharding import in_shards, split, whole

Kind = Literal["constant", "linear", "cosine", "wsd"]
_KINDS = ("constant", "linear", "cosine", "wsd")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Factor on the learning rate at each step.

    Attributes:
        steps: Length of the run.
        warmup: Steps that rise linearly to 1; the first one takes ``1 / warmup``, never 0.
        kind: Behind the warm-up: ``constant``; ``linear`` or ``cosine`` down to ``floor``; ``wsd``: constant, then
            linear to ``floor`` over the last ``decay`` steps (MiniCPM, arXiv 2404.06395).
        floor: Smallest factor, reached behind the last step: no step of a run is at rate 0 and in vain.
        decay: Steps of the last phase of ``wsd``.
    """

    steps: int
    warmup: int = 0
    kind: Kind = "cosine"
    floor: float = 0.0
    decay: int = 0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise RecipeError(f"schedule: expected one of {', '.join(_KINDS)}, got {self.kind!r}")
        if self.steps < 1 or self.warmup < 0 or self.decay < 0 or self.warmup + self.decay > self.steps:
            raise RecipeError(
                f"schedule: warm-up ({self.warmup}) and decay ({self.decay}) must fit into {self.steps} steps; "
                "set warmup and decay as well"
            )
        if not 0 <= self.floor <= 1:
            raise RecipeError(f"schedule: expected a floor from 0 to 1, got {self.floor}")

    def __call__(self, step: int) -> float:
        """Factor for step 0, 1, ...; past the end it stays at ``floor``."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.kind == "constant":
            return 1.0
        begin = self.steps - self.decay if self.kind == "wsd" else self.warmup
        done = _share(step - begin, self.steps - begin)
        left = 0.5 * (1 + math.cos(math.pi * done)) if self.kind == "cosine" else 1 - done
        return self.floor + (1 - self.floor) * left


def _share(done: int, total: int) -> float:
    """How much of a phase is over, 0 to 1; one without a step is over, one that is still ahead is not."""
    if done < 0:
        return 0.0
    return 1.0 if total <= 0 else min(1.0, done / total)


def parameter_groups(
    components: Mapping[str, nn.Module],
    rates: Mapping[str, float],
    *,
    weight_decay: float = 0.1,
) -> list[dict[str, Any]]:
    """Groups for AdamW, at most two per component: its matrices, and the rest without decay.

    Sets ``requires_grad``: a component whose rate is 0, or that has none, is frozen. A parameter that two
    components share belongs to the first that is trained.

    Args:
        components: By name, such as ``backbone`` or ``head/image/fsq``.
        rates: Learning rate by name; a name that ends in ``/`` stands for all that begin with it, and the
            longest match counts. ``""`` is the rate of everything else.
        weight_decay: For parameters of two or more axes.

    Returns:
        Groups with ``name``, ``params``, ``lr``, ``peak`` (the rate before the schedule), ``weight_decay``.

    Raises:
        RecipeError: A rate is negative or not finite, names no component, or nothing is left to train.
    """
    for name, rate in rates.items():
        if not (math.isfinite(rate) and rate >= 0):
            raise RecipeError(f"learning rate of {name!r}: expected a number >= 0, got {rate}")
        if not any(_match(name, component) for component in components):
            raise RecipeError(f"learning rate of {name!r}: no such component; there are {', '.join(components)}")
    for component in components.values():
        component.requires_grad_(False)
    groups: list[dict[str, Any]] = []
    seen: set[nn.Parameter] = set()
    for name, component in components.items():
        rate = _rate(name, rates)
        if rate == 0:
            continue
        fresh = [p for p in component.parameters() if p not in seen]
        seen.update(fresh)
        for suffix, decay, chosen in (
            ("matrices", weight_decay, [p for p in fresh if p.dim() >= 2]),
            ("others", 0.0, [p for p in fresh if p.dim() < 2]),
        ):
            if chosen:
                groups.append(
                    {"name": f"{name}:{suffix}", "params": chosen, "lr": rate, "peak": rate, "weight_decay": decay}
                )
    for parameter in seen:
        parameter.requires_grad_(parameter.is_floating_point())
    if not groups:
        raise RecipeError("learning rates: every component is frozen; give at least one a rate above 0")
    return groups


def _match(pattern: str, component: str) -> bool:
    """A rate's name fits a component."""
    return pattern in ("", component) or (pattern.endswith("/") and component.startswith(pattern))


def _rate(component: str, rates: Mapping[str, float]) -> float:
    """The rate with the longest name that fits; 0 without one."""
    return rates[max(names, key=len)] if (names := [n for n in rates if _match(n, component)]) else 0.0


def adamw(
    groups: list[dict[str, Any]], *, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8
) -> torch.optim.AdamW:
    """AdamW over groups, in one fused kernel."""
    return torch.optim.AdamW(groups, betas=betas, eps=eps, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give each group its own rate times the schedule's factor; call it before each step."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def clip(parameters: Iterable[nn.Parameter], norm: float) -> float:
    """Scale gradients so that their common norm is at most ``norm``.

    Returns:
        The norm before; NaN or infinity tells the caller to skip the step.
    """
    given = [p for p in parameters if p.grad is not None]
    total = _norm([p.grad for p in given if p.grad is not None])
    for kind in (False, True):
        nn.utils.clip_grads_with_norm_([p for p in given if in_shards(p) == kind], norm, total)
    return float(total)


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    """Norm of all gradients together, those in shards gathered; the two kinds do not mix in one call."""
    kinds = [[g for g in gradients if in_shards(g) == kind] for kind in (False, True)]
    parts = [whole(nn.utils.get_total_norm(kind)) for kind in kinds if kind]
    return parts[0] if len(parts) == 1 else nn.utils.get_total_norm(parts)


def norms(groups: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Norm of the gradient of each component that has one, over groups of ``parameter_groups``."""
    gradients: dict[str, list[Tensor]] = {}
    for group in groups:
        own = gradients.setdefault(group["name"].rpartition(":")[0], [])
        own.extend(p.grad for p in group["params"] if p.grad is not None)
    return {name: float(_norm(own)) for name, own in gradients.items() if own}


def autocasts(precision: str) -> bool:
    """Whether steps run under bfloat16 autocast; ``auto``: where the processor multiplies bfloat16 itself.

    Elsewhere it is emulated, and ten times slower than float32 on a processor with AVX2 alone.
    """
    if precision != "auto":
        return precision == "bfloat16"
    can = torch.cpu.get_capabilities()
    return bool(can.get("amx_bf16") or can.get("avx512_bf16"))


def pack_optimizer(optimizer: torch.optim.Optimizer, prefix: str = "optimizer.") -> dict[str, Tensor]:
    """Tensors of an optimiser's state by name, ``optimizer.<parameter>.<key>``; bit for bit, in shards as it is."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}{index}.{key}": torch.as_tensor(value) for index, of in state.items() for key, value in of.items()
    }


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str = "optimizer."
) -> None:
    """Put back what ``pack_optimizer`` took; groups and their rates stay as the recipe built them.

    Raises:
        CheckpointError: The tensors belong to another set of parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            index, key = name.removeprefix(prefix).split(".", 1)
            shape = tuple(parameters[int(index)].shape) if int(index) < len(parameters) else None
            if shape is None or (value.dim() and tuple(value.shape) != shape):
                raise CheckpointError(f"optimiser: {name} has shape {tuple(value.shape)}, the parameter has {shape}")
            state.setdefault(int(index), {})[key] = (
                split(value.clone(), parameters[int(index)]) if value.dim() else value.clone()
            )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
