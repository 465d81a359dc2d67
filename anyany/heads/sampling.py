"""Batched sampling: every request by its own rule, from its own generator.

Shapes: B requests, V choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from anyany.errors import LayoutError
from anyany.heads.steps import Sampling


def sample(
    logits: Tensor,
    rules: Sequence[Sampling],
    draws: Sequence[torch.Generator],
    plain: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample one of V for each of B requests.

    One uniform number per request comes from its own generator, so that what a request samples does not
    depend on its neighbours. Temperature 0 takes the largest logit and draws nothing.

    Args:
        logits: ``(B, V)`` float.
        rules: Temperature, top-k, top-p of each request.
        draws: Random generator of each request.
        plain: ``(B, V)`` logits before anything was ruled out; ``None``: nothing was.

    Returns:
        Ids ``(B,)`` and their log-probabilities ``(B,)`` under the plain logits (temperature 1).

    Raises:
        LayoutError: The logits of a request hold NaN, or rule out everything.
    """
    largest, ids = logits.max(dim=-1)
    if not all(map(math.isfinite, largest.tolist())):
        raise LayoutError("logits: expected numbers, got NaN or infinity; the weights of the head are damaged")
    logprobs = (logits if plain is None else plain).log_softmax(dim=-1)
    drawn = [b for b, rule in enumerate(rules) if rule.temperature > 0]
    if drawn:
        rows = logits if len(drawn) == len(rules) else logits[drawn]
        ids[drawn] = _draw(rows, [rules[b] for b in drawn], [draws[b] for b in drawn])
    return ids, logprobs.gather(-1, ids[:, None])[:, 0]


def sample_end(
    logits: Tensor, rules: Sequence[Sampling], draws: Sequence[torch.Generator], states: Sequence[Any]
) -> tuple[Tensor, Tensor]:
    """Decide whether the spans of B requests end here: drawn, or by the sign at temperature 0.

    Args:
        logits: ``(B,)`` of the end.
        rules: Temperature of each request.
        draws: Random generator of each request.
        states: Whether each request may end here.

    Returns:
        The ends ``(B,)`` bool, and the log-probability ``(B,)`` of what was decided: 0 where nothing was.
    """
    may = torch.tensor([bool(state) for state in states], device=logits.device)
    ends = [
        allowed and float(p) > (0.5 if rule.temperature == 0 else float(torch.rand((), generator=draw)))
        for p, rule, draw, allowed in zip(torch.sigmoid(logits), rules, draws, may.tolist(), strict=True)
    ]
    end = torch.tensor(ends, device=logits.device)
    return end, torch.where(may, F.logsigmoid(torch.where(end, logits, -logits)), 0.0)


def _draw(logits: Tensor, rules: Sequence[Sampling], draws: Sequence[torch.Generator]) -> Tensor:
    """Inverse of the cumulative distribution over choices in descending order."""
    heat = torch.tensor([r.temperature for r in rules], device=logits.device)[:, None]
    ordered, index = (logits / heat).sort(dim=-1, descending=True, stable=True)  # (B, V)
    probs = ordered.softmax(dim=-1)
    if any(r.top_k for r in rules):
        k = torch.tensor([r.top_k or logits.shape[-1] for r in rules], device=logits.device)[:, None]
        probs = probs * (torch.arange(logits.shape[-1], device=logits.device)[None] < k)
    if any(r.top_p < 1.0 for r in rules):
        p = torch.tensor([r.top_p for r in rules], device=logits.device)[:, None]
        before = probs.cumsum(dim=-1) - probs
        keep = before < p * probs.sum(dim=-1, keepdim=True)
        keep[:, 0] = True
        probs = probs * keep
    cumulative = probs.cumsum(dim=-1)
    uniform = torch.stack([torch.rand((), generator=g) for g in draws]).to(logits.device)[:, None]
    at = (cumulative <= uniform * cumulative[:, -1:]).sum(dim=-1, keepdim=True)
    last = (probs > 0).sum(dim=-1, keepdim=True) - 1
    return index.gather(-1, torch.minimum(at, last))[:, 0]
