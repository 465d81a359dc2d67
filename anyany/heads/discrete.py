"""One code per row.

Shapes: n rows, D model width, V codes, B requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.heads.base import Head, HeadLoss, begins, boundaries
from anyany.heads.guidance import combine
from anyany.heads.sampling import sample
from anyany.heads.steps import Picked, Sampling


class DiscreteHead(Head):
    """Embedding and logits of ``vocab`` codes; the end is one more logit row."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__(width)
        self.vocab = vocab
        self.codes = nn.Embedding(vocab, width)
        nn.init.normal_(self.codes.weight, std=0.02)
        self.logits = nn.Linear(width, vocab + 1)

    def embed(self, latents: Tensor) -> Tensor:
        """Codes ``(n, 1)`` -> rows ``(n, D)``."""
        return self.codes(latents[:, 0])

    def counted(self, lengths: Sequence[int], fixed: bool) -> int:
        """A row for each code and, unless ``fixed``, each end."""
        return sum(lengths) + (0 if fixed else len(lengths))

    def loss(self, hidden: Tensor, latents: Tensor, lengths: Sequence[int], fixed: bool) -> HeadLoss:
        """Cross-entropy over the codes and, unless ``fixed``, the end."""
        rows, _ = boundaries(lengths, hidden.device)
        if fixed:
            logits = self.logits(hidden[rows])[:, : self.vocab].float()
            return HeadLoss(F.cross_entropy(logits, latents[:, 0], reduction="sum"), len(rows))
        targets = torch.full((len(hidden),), self.vocab, device=hidden.device)
        targets[rows] = latents[:, 0]
        logits = self.logits(hidden).float()
        logits[begins(lengths, hidden.device), -1] = float("-inf")  # as in ``pick``: a span is not empty
        return HeadLoss(F.cross_entropy(logits, targets, reduction="sum"), len(hidden))

    def pick(
        self,
        hidden: Tensor,
        rules: Sequence[Sampling],
        draws: Sequence[torch.Generator],
        states: Sequence[Any],
    ) -> Picked:
        """Codes ``(B, 1)``; a request whose state is false cannot end."""
        logits = combine(self.logits(hidden).float(), rules)  # (B, V + 1)
        stuck = torch.tensor([not state for state in states], device=logits.device)
        logits[:, -1].masked_fill_(stuck, float("-inf"))
        ids, logprob = sample(logits, rules, draws)
        end = ids == self.vocab
        return Picked(ids.clamp(max=self.vocab - 1)[:, None], end, logprob)
