"""Rotations as tensors: from six numbers to matrices, and where they bring the joints.

Shapes: J joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def gram_schmidt(six: Tensor) -> Tensor:
    """``(..., 6)``, two columns, -> rotation matrices ``(..., 3, 3)`` (Zhou et al. 2019, arXiv 1812.07035)."""
    first = F.normalize(six[..., :3], dim=-1)
    second = six[..., 3:]
    second = F.normalize(second - (first * second).sum(dim=-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def joints(matrices: Tensor, parents: Sequence[int], offsets: Tensor) -> Tensor:
    """Places ``(..., J, 3)`` of joints relative to the root, from local matrices ``(..., J, 3, 3)``."""
    turned, places = [matrices[..., 0, :, :]], [torch.zeros_like(matrices[..., 0, :, 0])]
    for joint, parent in enumerate(parents):
        if parent >= 0:
            places.append(places[parent] + turned[parent] @ offsets[joint])
            turned.append(turned[parent] @ matrices[..., joint, :, :])
    return torch.stack(places, dim=-2)
