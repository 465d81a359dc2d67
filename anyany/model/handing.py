"""Components on their way to another process: as they prepare media there, without their weights."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T")


class ByValue(ForkingPickler):
    """Bytes for our own pipes, without what torch adds: tensors as bytes, not as files that both sides hold open."""

    _extra_reducers: dict[type, Any] = {}  # noqa: RUF012


def without_weights(value: T, components: Iterable[object]) -> T:
    """A deep copy in which parameters are shapes alone; ``prepare`` uses none. Buffers stay, on the CPU.

    Args:
        value: What holds the components, or a component.
        components: Those that have parameters; what is no module stays as it is.
    """
    memo: dict[int, Any] = {}
    for component in components:
        if not isinstance(component, nn.Module):
            continue
        for parameter in component.parameters():
            memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for buffer in component.buffers():
            memo[id(buffer)] = buffer.detach().cpu().clone()
        for module in component.modules():  # hooks of adapters cannot be handed over, and nothing is projected
            memo[id(module._forward_hooks)] = OrderedDict()
    return copy.deepcopy(value, memo)
