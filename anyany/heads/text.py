"""The text head: token embedding, logits, loss, and the choice of what comes next.

Text is the first modality, so its head also decides when another begins: the begin mark of every
emitting modality is one more logit row. That row (``Head.call``) belongs to the modality's own head,
behind the text vocabulary, so that adding a modality renumbers nothing.

Shapes: n rows, B requests, G guidance branches, V vocabulary with role marks, M emitting modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.heads.base import HeadLoss
from anyany.heads.guidance import combine
from anyany.heads.linear_cross_entropy import linear_cross_entropy
from anyany.heads.sampling import sample
from anyany.heads.steps import Picked, Sampling


@dataclass(frozen=True)
class TextState:
    """What the text head must know of one request.

    Attributes:
        allowed: ``(V + M,)`` bool: what may come next; ``None`` allows everything.
        seen: ``(V + M,)`` bool: token ids that the reply already holds, for the repetition penalty.
        leaving: Ids of marks that all mean that the text is over, the one first that may be picked: it is as
            probable as all of them together, so that a text which the model would end here is not spun out.
    """

    allowed: Tensor | None = None
    seen: Tensor | None = None
    leaving: Tensor | None = None


class TextHead(nn.Module):
    """Embedding ``(V, D)`` and, unless tied, an output matrix of the same shape.

    Args:
        vocab: V.
        width: D.
        tied: The embedding is the output matrix, too.
        scale: Of embedded rows.
        softcap: Logits z become ``softcap * tanh(z / softcap)``; 0 leaves them.
    """

    def __init__(self, vocab: int, width: int, *, tied: bool = True, scale: float = 1.0, softcap: float = 0.0) -> None:
        super().__init__()
        self.scale, self.softcap = scale, softcap
        self.vocab, self.width, self.tied = vocab, width, tied
        self.embedding = nn.Embedding(vocab, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.output: nn.Linear | None = None
        if not tied:
            self.output = nn.Linear(width, vocab, bias=False)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids ``(n,)`` -> rows ``(n, D)``."""
        rows = self.embedding(ids)
        return rows if self.scale == 1.0 else rows * rows.new_tensor(self.scale)  # in the type of the weights

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``(..., D)`` -> ``(..., V)``."""
        return self.capped(F.linear(hidden, self.embedding.weight) if self.output is None else self.output(hidden))

    def capped(self, logits: Tensor) -> Tensor:
        """Logits of any matrix as they are compared with each other."""
        return logits if not self.softcap else self.softcap * (logits / self.softcap).tanh()

    def loss(self, hidden: Tensor, targets: Tensor, calls: Tensor, weights: Tensor | None = None) -> HeadLoss:
        """Cross-entropy of what comes next.

        Args:
            hidden: ``(n, D)`` rows that predict.
            targets: ``(n,)`` token ids, or ``V + m`` for the begin mark of modality m.
            calls: ``(M, D)`` logit rows of the begin marks.
            weights: ``(n,)`` weight of each row; ``None`` is 1.
        """
        matrix = self.embedding.weight if self.output is None else self.output.weight
        matrices = [matrix, calls] if len(calls) else [matrix]
        return HeadLoss(linear_cross_entropy(hidden, matrices, targets, weights, self.softcap), len(targets))


class TextPicker:
    """Samples the next token or begin mark for many requests at once."""

    def __init__(self, head: TextHead, calls: Tensor) -> None:
        self.head = head
        self.calls = calls  # (M, D)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states ``(..., D)`` -> ``(..., V + M)``."""
        text = self.head.logits(hidden)
        if not len(self.calls):
            return text
        return torch.cat([text, self.head.capped(F.linear(hidden, self.calls))], dim=-1)

    def pick(
        self,
        hidden: Tensor,  # (B, G, D)
        rules: Sequence[Sampling],
        draws: Sequence[torch.Generator],
        states: Sequence[Any],
    ) -> Picked:
        """Token ids ``(B,)`` in ``[0, V + M)``; ``end`` is never set, the engine knows the end tokens."""
        plain = combine(self.logits(hidden).float(), rules)  # (B, V + M)
        allowed = [state.allowed for state in states]
        if any(mask is None for mask in allowed):
            every = torch.ones(plain.shape[1:], dtype=torch.bool, device=plain.device)
            allowed = [every if mask is None else mask for mask in allowed]
        rows = plain
        if any(rule.repetition_penalty != 1.0 for rule in rules):
            rows = torch.stack([_penalised(*each) for each in zip(plain, states, rules, strict=True)])
        if any(state.leaving is not None for state in states):
            rows = torch.stack([_merged(*each) for each in zip(rows, states, strict=True)])
        masks = allowed[0] if len(allowed) == 1 else torch.stack(allowed)
        logits = rows.where(masks, float("-inf"))
        ids, logprob = sample(logits, rules, draws, plain)
        return Picked(ids, torch.zeros(len(ids), dtype=torch.bool), logprob)


def _merged(logits: Tensor, state: TextState) -> Tensor:
    """The first of the leaving marks gets the probability of all."""
    if state.leaving is None:
        return logits
    return logits.index_fill(0, state.leaving[:1], float(logits[state.leaving].logsumexp(dim=0)))


def _penalised(logits: Tensor, state: TextState, rule: Sampling) -> Tensor:
    """Tokens that were already said become less likely (Keskar et al. 2019, arXiv 1909.05858)."""
    seen, penalty = state.seen, rule.repetition_penalty
    if seen is None or penalty == 1.0:
        return logits
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
