"""Root mean square norm (Zhang and Sennrich 2019, arXiv 1910.07467), in few operators where nothing learns.

Shapes: ``(..., D)``.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
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
        return self._weighed(x * inverse)

    def _weighed(self, scaled: Tensor) -> Tensor:
        weight = self._parameters["weight"]
        return scaled if weight is None else scaled.mul_(weight)


class PlusOneRMSNorm(RMSNorm):
    """The weight is what is added to 1 (Gemma): it starts at 0, and keeps its digits in bfloat16."""

    def reset_parameters(self) -> None:
        """A new one scales by 1."""
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` -> the same; in float32 or wider, rounded once."""
        if not torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
            return self.quick(x)
        wide = torch.promote_types(x.dtype, torch.float32)
        return F.rms_norm(x.to(wide), self.normalized_shape, 1.0 + self.weight.to(wide), self.eps).to(x.dtype)

    def _weighed(self, scaled: Tensor) -> Tensor:
        return scaled.addcmul_(scaled, self._parameters["weight"])


class WholeRMSNorm(RMSNorm):
    """One norm over all heads of a row together, ``H * Dh`` numbers (OLMo 2, arXiv 2501.00656)."""

    def forward(self, x: Tensor) -> Tensor:
        """``(T, H, Dh)`` -> the same."""
        return super().forward(x.flatten(-2)).view(x.shape)


@cache
def _floor(eps: float | None, dtype: torch.dtype) -> Tensor:
    """What is added to the mean square."""
    with torch.inference_mode(False):
        return torch.tensor(torch.finfo(dtype).eps if eps is None else eps, dtype=dtype)
