"""What all heads share: the marks of their spans, and the row-by-row conversation.

Shapes: n rows, N spans, D model width, B requests, G guidance branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.errors import GuidanceError
from anyany.heads.steps import Emission, EmitContext, Fork, Join, Pick, Picked, Sampling, Step


class HeadLoss(NamedTuple):
    """A sum over rows and how many rows it is over; of several codes in one row, each counts."""

    total: Tensor
    rows: int


class Head(nn.Module):
    """Hidden states <-> latents of one modality.

    ``begin`` and ``end`` are the embeddings of the marks of its spans; ``call`` is the logit row with
    which the text head picks the begin mark. All three ``(D,)``.
    """

    denoises = False
    """Learns on noised copies of its spans, and emits a span at once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.begin = nn.Parameter(torch.randn(width) * 0.02)
        self.end = nn.Parameter(torch.randn(width) * 0.02)
        self.call = nn.Parameter(torch.randn(width) * 0.02)

    @property
    def unscaled(self) -> bool:
        """Whether ``fit`` is still to be called; never for discrete heads, which need no scale."""
        return False

    def fit(self, latents: Tensor) -> None:
        """Learn the scale of latents ``(n, ...)`` before training; discrete heads need none."""

    def embed(self, latents: Tensor) -> Tensor:
        """Latents ``(n, ...)`` -> rows ``(n, D)``."""
        raise TypeError(f"{type(self).__name__} does not define embed")

    def counted(self, lengths: Sequence[int], fixed: bool) -> int:
        """``HeadLoss.rows`` of spans of these lengths, known before their loss: a row for each latent."""
        return sum(lengths)

    def loss(self, hidden: Tensor, latents: Tensor, lengths: Sequence[int], fixed: bool) -> HeadLoss:
        """Loss of spans.

        Args:
            hidden: ``(sum of n_i + 1, D)``: of the begin mark and of each inner row; row k predicts
                latent k + 1, the last one the end.
            latents: ``(sum of n_i, ...)``.
            lengths: n_i of each span.
            fixed: The length is known, so that no end is predicted.
        """
        raise TypeError(f"{type(self).__name__} does not define loss")

    def pick(
        self,
        hidden: Tensor,
        rules: Sequence[Sampling],
        draws: Sequence[torch.Generator],
        states: Sequence[Any],
    ) -> Picked:
        """Sample the next latent of B requests from ``hidden (B, G, D)``.

        ``states[b]`` says whether request b may end here.
        """
        raise TypeError(f"{type(self).__name__} does not define pick")

    def emit(self, context: EmitContext) -> Emission:
        """Row by row: the begin mark, then each latent as it is made."""
        guided = yield from open_guidance(context)
        made: list[Tensor] = []
        row, at = self.begin[None], context.begin
        while len(made) < context.plan.rows:
            may_end = not context.plan.fixed and len(made) > 0
            result = yield Step(row, at, pick=Pick(self, context.rule, may_end))
            if result.end:
                break
            latent = result.latents[None]  # type: ignore[index]
            made.append(latent)
            for name, value in result.extra.items():
                context.extra.setdefault(name, []).append(value)
            context.push(latent)
            row, at = self.embed(latent), context.at(len(made) - 1, len(made))
        else:
            yield Step(row, at)
        if guided:
            yield Join()
        return torch.cat(made)


def open_guidance(context: EmitContext) -> Any:
    """Open the branch without the condition, where the rule asks for guidance; returns whether."""
    if context.rule.guidance == 1.0:
        return False
    if context.unconditional is None:
        raise GuidanceError(
            f"guidance {context.rule.guidance}: the model has no unconditional branch; use guidance=1.0"
        )
    rows, coordinates = context.unconditional
    yield Fork(rows, coordinates, share=0)
    return True


def boundaries(lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices into ``hidden`` of the rows that predict a latent, and of those that predict the end."""
    starts, inner, last = 0, [], []
    for n in lengths:
        inner.append(torch.arange(starts, starts + n))
        last.append(starts + n)
        starts += n + 1
    rows = torch.cat(inner) if inner else torch.empty(0, dtype=torch.long)
    return rows.to(device), torch.tensor(last, device=device, dtype=torch.long)


def begins(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Indices into ``hidden`` of the begin marks of spans that hold a latent: there no span may end."""
    _, last = boundaries(lengths, device)
    counts = torch.tensor(list(lengths), device=device, dtype=torch.long)
    return (last - counts)[counts > 0]


def end_loss(logits: Tensor, lengths: Sequence[int]) -> Tensor:
    """Binary cross-entropy of ``the span ends here``, over the rows ``(sum of n_i + 1,)`` where it may."""
    _, last = boundaries(lengths, logits.device)
    ends = torch.zeros(len(logits), device=logits.device)
    ends[last] = 1.0
    may = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    may[begins(lengths, logits.device)] = False
    return F.binary_cross_entropy_with_logits(logits[may].float(), ends[may], reduction="sum")
