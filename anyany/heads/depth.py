"""Several codes per row: a small recurrent decoder over the books of one row.

The backbone runs once per row; the books follow each other in a GRU that starts from the row's hidden
state (in the place of the depth transformer of RQ-Transformer, arXiv 2203.01941).

Shapes: n rows, K books, V codes per book, D model width, E inner width, B requests, G branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.heads.base import Head, HeadLoss, boundaries, end_loss
from anyany.heads.guidance import combine
from anyany.heads.sampling import sample, sample_end
from anyany.heads.steps import Picked, Sampling


class DepthHead(Head):
    """``books`` codes of ``vocab`` each per row, and an end that is decided before the first book."""

    def __init__(self, width: int, vocab: int, books: int, *, inner: int = 128) -> None:
        super().__init__(width)
        self.vocab, self.books = vocab, books
        self.codes = nn.ModuleList(nn.Embedding(vocab, width) for _ in range(books))
        self.steps = nn.ModuleList(nn.Embedding(vocab, inner) for _ in range(books - 1))
        for table in [*self.codes, *self.steps]:
            nn.init.normal_(table.weight, std=0.02)
        self.first = nn.Linear(width, inner)
        self.skip = nn.Linear(width, inner)
        self.cell = nn.GRUCell(inner, inner)
        self.logits = nn.ModuleList(nn.Linear(inner, vocab) for _ in range(books))
        self.stop = nn.Linear(width, 1)

    def embed(self, latents: Tensor) -> Tensor:
        """Codes ``(n, K)`` -> rows ``(n, D)``."""
        return torch.stack([table(latents[:, k]) for k, table in enumerate(self.codes)]).sum(dim=0)

    def _advance(self, state: Tensor, skip: Tensor, book: int, codes: Tensor) -> Tensor:
        """State after a book was chosen: ``(..., E)``; codes broadcast over branches."""
        step = (self.steps[book](codes) + skip).expand_as(state)
        shape = state.shape
        return self.cell(step.reshape(-1, shape[-1]), state.reshape(-1, shape[-1])).view(shape)

    def counted(self, lengths: Sequence[int], fixed: bool) -> int:
        """A row for each code."""
        return sum(lengths) * self.books

    def loss(self, hidden: Tensor, latents: Tensor, lengths: Sequence[int], fixed: bool) -> HeadLoss:
        """Cross-entropy of each book given those before it, and of the end; each code counts as a row."""
        rows, _ = boundaries(lengths, hidden.device)
        at = hidden[rows]
        state, skip = torch.tanh(self.first(at)), self.skip(at)
        total = hidden.new_zeros((), dtype=torch.float32)
        for book in range(self.books):
            logits = self.logits[book](state).float()
            total = total + F.cross_entropy(logits, latents[:, book], reduction="sum")
            if book + 1 < self.books:
                state = self._advance(state, skip, book, latents[:, book])
        if not fixed:
            total = total + end_loss(self.stop(hidden)[:, 0], lengths)
        return HeadLoss(total, self.counted(lengths, fixed))

    def pick(
        self,
        hidden: Tensor,
        rules: Sequence[Sampling],
        draws: Sequence[torch.Generator],
        states: Sequence[Any],
    ) -> Picked:
        """Codes ``(B, K)``, book by book for all requests at once."""
        state, skip = torch.tanh(self.first(hidden)), self.skip(hidden)  # (B, G, E)
        codes, logprob = [], torch.zeros(len(hidden), device=hidden.device)
        for book in range(self.books):
            ids, each = sample(combine(self.logits[book](state).float(), rules), rules, draws)
            codes.append(ids)
            logprob = logprob + each
            if book + 1 < self.books:
                state = self._advance(state, skip, book, ids[:, None])
        end, decided = sample_end(combine(self.stop(hidden).float(), rules)[:, 0], rules, draws, states)
        return Picked(torch.stack(codes, dim=1), end, decided + logprob.masked_fill(end, 0.0))
