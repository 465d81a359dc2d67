"""A feed-forward of experts, of which each row takes a few (Shazeer et al. 2017, arXiv 1701.06538).

Dense reference routing: each expert that any row has chosen runs once, over its rows. No row is dropped, and there
is no loss that evens out how often experts are chosen.

Shapes: T rows, D model width, E experts, K experts of a row, F hidden width of an expert.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Experts(nn.Module):
    """SwiGLU experts behind a router.

    Args:
        width: D.
        hidden: F.
        experts: E.
        chosen: K, the likeliest of each row.
        renormalise: Shares of the chosen ones add up to 1; else they are the router's own.
    """

    def __init__(self, width: int, hidden: int, *, experts: int, chosen: int, renormalise: bool) -> None:
        super().__init__()
        self.chosen, self.renormalise = chosen, renormalise
        self.router = nn.Linear(width, experts, bias=False)
        self.experts_gate_up = nn.Parameter(torch.empty(experts, 2 * hidden, width))
        self.experts_down = nn.Parameter(torch.empty(experts, width, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """``(T, D)`` -> ``(T, D)``."""
        logits = self.router(x)  # (T, E)
        odds = logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        shares, which = odds.topk(self.chosen, dim=-1)  # (T, K)
        if self.renormalise:
            shares = shares / shares.sum(-1, keepdim=True)
        out = torch.zeros_like(x)
        for expert in which.unique().tolist():
            rows, place = (which == expert).nonzero(as_tuple=True)
            gate, up = F.linear(x[rows], self.experts_gate_up[expert]).chunk(2, dim=-1)  # (n, F) each
            made = F.linear(F.silu(gate) * up, self.experts_down[expert])  # (n, D)
            out = out.index_add(0, rows, (made * shares[rows, place, None]).to(out.dtype))
        return out
