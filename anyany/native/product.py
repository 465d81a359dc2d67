"""A few rows times one matrix, by the native library: the output matrix of text, the largest product of a step.

Shapes: ``hidden (..., D)``, V outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from anyany.native.choice import library, why_not
from anyany.native.weights import ByColumns, Form, Unfit, Weights, declined, for_library, kind_of

if TYPE_CHECKING:
    from anyany_kernels.native import Library, Matrix

_ready: WeakKeyDictionary[nn.Module, tuple[Weights, Matrix]] = WeakKeyDictionary()


def product(module: nn.Linear | nn.Embedding, hidden: Tensor, form: Form | None = None) -> Tensor | None:
    """``hidden`` times the weights ``(V, D)`` of a module, ``(..., V)``; ``None``: not this way.

    Args:
        module: A projection, or an embedding whose table is the output matrix as well.
        hidden: ``(..., D)``.
        form: Of the weights: small integers, or ``None`` for the module's own.

    Raises:
        NativeError: The user insists on the library, or on small integers, and the library cannot multiply these.
    """
    found = library()
    rows = hidden.numel() // max(1, hidden.shape[-1])
    if found is None and form is not None:
        declined("output matrix", why_not(), form)
    if found is None or not for_library(hidden, rows):
        return None
    try:
        kind = kind_of(hidden)
        weights, matrix = _prepare(module, hidden.shape[-1], found, form)
    except Unfit as unfit:
        declined("output matrix", str(unfit), form)
        return None
    hidden = hidden.contiguous()
    out = torch.empty(*hidden.shape[:-1], matrix.rows, dtype=hidden.dtype)
    found.product(matrix, hidden.data_ptr(), out.data_ptr(), kind, rows, weights.threads(rows))
    return out


def _prepare(
    module: nn.Linear | nn.Embedding, inputs: int, found: Library, form: Form | None
) -> tuple[Weights, Matrix]:
    ready = _ready.get(module)
    if ready is None or ready[0].form != form or not ready[0].hold():
        _ready.pop(module, None)
        weights = Weights(found, form)
        weights.module(module, "output", nn.Linear, nn.Embedding)
        ready = weights, weights.linear(module, len(module.weight), inputs)
        if not weights.hold():
            raise ByColumns
        _ready[module] = ready
    return ready
