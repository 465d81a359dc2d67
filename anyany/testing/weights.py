"""Weights: all of them are known by name, and come back from a file."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn

from anyany.testing.compare import same
from anyany.testing.kit import demand, hold, listed
from anyany.testing.subject import Subject


@demand()
def tensors_are_registered(subject: Subject) -> None:
    """No module holds a bare tensor: it would neither move to a device nor be stored."""
    component = subject.build()
    bare = [
        f"{name}.{key}".lstrip(".")
        for name, module in component.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, torch.Tensor)
    ]
    hold(not bare, "parameters and buffers", f"bare tensors {listed(bare)}", "self.register_buffer(name, tensor)")


@demand()
def weights_are_finite(subject: Subject) -> None:
    """Fresh weights and buffers are finite."""
    wrong = [name for name, value in subject.build().state_dict().items() if not value.isfinite().all()]
    hold(not wrong, "finite weights", f"others in {listed(wrong)}", "initialise what torch.empty left")


@demand()
def weights_come_back_from_a_file(subject: Subject) -> None:
    """Stored as safetensors and read into another fresh one, it gives the same numbers: no state lies elsewhere."""
    one, other = subject.build(seed=0), subject.build(seed=1)
    batch = subject.batch(one)
    other.load_state_dict(load(save(_contiguous(one))))
    same(
        subject.run(other, batch),
        subject.run(one, batch),
        "the output of before",
        "keep all that is learned in state_dict()",
        0.0,
    )


def _contiguous(component: nn.Module) -> dict[str, Any]:
    return {name: value.contiguous() for name, value in component.state_dict().items()}


@demand()
def names_stay_when_it_trains(subject: Subject) -> None:
    """Training mode and a pass add no name to the weights and take none away: resumed runs must find them."""
    from anyany.testing.gated import learning

    component = subject.build()
    before = set(component.state_dict())
    with torch.random.fork_rng(devices=[]):
        learning(subject, component.train())
    changed = before ^ set(component.state_dict())
    hold(not changed, "the names of before", f"a change in {listed(changed)}", "register all in the constructor")
