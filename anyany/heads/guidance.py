"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598) over forked branches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anyany.errors import GuidanceError
from anyany.heads.steps import Sampling


def combine(values: Tensor, rules: Sequence[Sampling]) -> Tensor:
    """``unconditional + strength * (conditional - unconditional)``: ``(B, G, ...)`` -> ``(B, ...)``.

    The request itself is branch 0, the unconditional one is branch 1.

    Raises:
        GuidanceError: A rule asks for guidance and there is no branch; never a silent skip.
    """
    if values.shape[1] == 1:
        for rule in rules:
            if rule.guidance != 1.0:
                raise GuidanceError(f"guidance {rule.guidance}: no unconditional branch is open; fork one first")
        return values[:, 0].clone()
    shape = (-1,) + (1,) * (values.dim() - 2)
    strength = torch.tensor([r.guidance for r in rules], device=values.device, dtype=values.dtype).view(shape)
    return values[:, 1] + strength * (values[:, 0] - values[:, 1])
