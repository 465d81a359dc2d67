"""Rotations as tensors: from six numbers to matrices, and where they bring the joints.

Shapes: J joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def gram_schmidt(six: Tensor) -> Tensor:
    """``(..., 6)``, two columns, -> rotation matrices ``(..., 3, 3)`` (Zhou et al. 2019, arXiv 1812.07035).

    A first column of zeros stands for the x axis, a second one that adds no direction for the axis farthest
    from the first, so that any six finite numbers are a rotation.
    """
    axes = torch.eye(3, dtype=six.dtype, device=six.device)
    first = _unit(six[..., :3], axes[0])
    spare = _across(first, axes[first.detach().abs().argmin(dim=-1)])
    second = _unit(_across(first, six[..., 3:]), F.normalize(spare, dim=-1))
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def _across(first: Tensor, vector: Tensor) -> Tensor:
    """What of a vector is at right angles to the unit vector ``first``."""
    return vector - (first * vector).sum(dim=-1, keepdim=True) * first


def _unit(vector: Tensor, spare: Tensor) -> Tensor:
    """A vector of length 1; ``spare`` where it has next to none."""
    return torch.where(vector.norm(dim=-1, keepdim=True) > 1e-6, F.normalize(vector, dim=-1), spare)


def joints(matrices: Tensor, parents: Sequence[int], offsets: Tensor) -> Tensor:
    """Places ``(..., J, 3)`` of joints relative to the root, from local matrices ``(..., J, 3, 3)``."""
    turned, places = [matrices[..., 0, :, :]], [torch.zeros_like(matrices[..., 0, :, 0])]
    for joint, parent in enumerate(parents):
        if parent >= 0:
            places.append(places[parent] + turned[parent] @ offsets[joint])
            turned.append(turned[parent] @ matrices[..., joint, :, :])
    return torch.stack(places, dim=-2)
