"""What a component promises in its capabilities."""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from anyany.testing.compare import same
from anyany.testing.kit import demand, hold, listed
from anyany.testing.subject import Subject

ROUNDING = 0.1
"""Share of the largest value that the eight bits of bfloat16 may lose over a few layers."""


@demand(lambda subject: subject.spec.can.deterministic)
def same_input_same_output(subject: Subject) -> None:
    """``deterministic``: the same batch gives the same numbers, in eval mode."""
    component = subject.build()
    batch = subject.batch(component)
    same(
        subject.run(component, batch),
        subject.run(component, batch),
        "the same output again",
        "drop nothing in eval mode",
        0.0,
    )


@demand(lambda subject: subject.spec.can.batched)
def batch_equals_singles(subject: Subject) -> None:
    """``batched``: many items in one call give what each gives alone."""
    component = subject.build()
    batch = subject.batch(component)
    alone = torch.cat([subject.run(component, [item]) for item in batch])
    advice = "no batch norm, no scale over the batch; mask what is padded"
    same(subject.run(component, batch), alone, "what the items give alone", advice)


@demand(lambda subject: subject.spec.can.batched)
def order_of_items_carries_over(subject: Subject) -> None:
    """``batched``: the rows of a batch stand in the order of its items, whatever that is."""
    component = subject.build()
    batch = subject.batch(component)
    ends = list(accumulate((item.rows for item in batch), initial=0))
    made = subject.run(component, batch)
    wanted = torch.cat([made[a:b] for a, b in reversed(list(pairwise(ends)))])
    same(subject.run(component, batch[::-1]), wanted, "the rows of the items, reversed", "return rows item by item")


def learning(subject: Subject, component: nn.Module) -> Tensor:
    """What trains a component alone: the loss of a codec, or the size of an encoder's features."""
    batch = subject.batch(component)
    if subject.encodes:
        made: Tensor = component(batch)
        # Weighted, because normed rows have one size whatever their weights are.
        return (made * torch.linspace(-1, 1, made.shape[1])).square().sum()
    terms = component.loss(batch)  # type: ignore[operator]
    return torch.stack([term.float() for term in terms.values()]).sum()


@demand(lambda subject: subject.spec.can.trainable)
def gradients_reach_every_weight(subject: Subject) -> None:
    """``trainable``: each of its weights gets a gradient, and a finite one."""
    component = subject.build().train()
    weights = {name: weight for name, weight in component.named_parameters() if weight.requires_grad}
    if not weights:  # a codec may be arithmetic alone
        return
    learning(subject, component).backward()
    without = [name for name, weight in weights.items() if weight.grad is None]
    hold(
        not without,
        "a gradient for each weight",
        f"none for {listed(without)}",
        "detach nothing; freeze what is not used",
    )
    wild = [name for name, weight in weights.items() if not weight.grad.isfinite().all()]
    hold(not wild, "finite gradients", f"others for {listed(wild)}", "look at square roots and norms of zero")


@demand(lambda subject: "bfloat16" in subject.spec.can.dtypes)
def bfloat16_is_close(subject: Subject) -> None:
    """``dtypes``: with weights in bfloat16 it gives nearly what it gives in float32."""
    _close(subject, torch.bfloat16)


@demand(lambda subject: not {"float16", "float64"}.isdisjoint(subject.spec.can.dtypes))
def float16_and_float64_are_close(subject: Subject) -> None:
    """``dtypes``: with weights in float16 or float64 it gives nearly what it gives in float32."""
    for dtype in (torch.float16, torch.float64):
        if str(dtype).removeprefix("torch.") in subject.spec.can.dtypes:
            _close(subject, dtype)


def _close(subject: Subject, dtype: torch.dtype) -> None:
    component = subject.build()
    batch = subject.batch(component)
    full = subject.run(component, batch)
    made = subject.run(component.to(dtype), batch)
    name = str(dtype).removeprefix("torch.")
    right = made.dtype == dtype or not subject.encodes
    hold(right, f"features in {name}", made.dtype, "follow the weights' type")
    same(made.float(), full.float(), "about the output in float32", "bring inputs to the weights' type", ROUNDING)


@demand()
def runs_in_inference_mode(subject: Subject) -> None:
    """Under ``torch.inference_mode`` it gives the same numbers: that is how the engine calls it."""
    component = subject.build()
    batch = subject.batch(component)
    with torch.inference_mode():
        made = component(batch) if subject.encodes else component.encode(batch)
    same(made, subject.run(component, batch), "the output of before", "write into no weight or buffer")


@demand()
def eval_mode_keeps_its_weights(subject: Subject) -> None:
    """Running it in eval mode changes neither weight nor buffer."""
    component = subject.build()
    before = {name: value.clone() for name, value in component.state_dict().items()}
    subject.run(component, subject.batch(component))
    changed = [n for n, v in component.state_dict().items() if not torch.equal(v.nan_to_num(), before[n].nan_to_num())]
    hold(not changed, "weights as they were", f"another {listed(changed)}", "count and average in training mode alone")
