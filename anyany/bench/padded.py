"""The peer of training: a Llama of transformers, LoRA of peft, batches that are padded to their longest row.

Features of pictures take the places of their placeholders among the embeddings, as in LLaVA (arXiv 2304.08485).

Shapes: B conversations, L rows of the longest, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from anyany.bench.mixture import eyes
from anyany.errors import MissingPackageError
from anyany.importers.llama import names
from anyany.model.document import Document
from anyany.plugin import Prepared

IGNORED = -100
"""The label of a row that nothing is to be learnt from, as transformers has it."""


@dataclass(frozen=True)
class Padded:
    """A batch, rows at the right of the shorter ones.

    Attributes:
        ids: ``(B, L)`` tokens; 0 in places of pictures and padding.
        mask: ``(B, L)`` 1 where there is a row.
        labels: ``(B, L)`` tokens of the answers, ``IGNORED`` elsewhere.
        places: ``(B, L)`` bool, rows of pictures, their marks included.
        pictures: In order.
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor
    places: Tensor
    pictures: tuple[Prepared, ...]

    @property
    def fill(self) -> float:
        """Share of the rows that hold something."""
        return float(self.mask.float().mean())


def collate(documents: Sequence[Document]) -> Padded:
    """Conversations as a padded batch."""
    ids, labels, places, pictures = [], [], [], []
    for document in documents:
        tokens: list[int] = []
        wanted: list[int] = []
        seen: list[bool] = []
        for piece in document.pieces:
            rows = piece.span.rows
            tokens += piece.ids or [0] * rows
            wanted += piece.ids if piece.learn else [IGNORED] * rows
            seen += [piece.prepared is not None] * rows
            pictures += [] if piece.prepared is None else [piece.prepared]
        ids.append(torch.tensor(tokens))
        labels.append(torch.tensor(wanted))
        places.append(torch.tensor(seen))
    return Padded(
        pad_sequence(ids, batch_first=True),
        pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        pad_sequence(places, batch_first=True),
        tuple(pictures),
    )


class Seeing(nn.Module):
    """A language model of transformers behind an encoder and a projector."""

    def __init__(self, language: Any) -> None:
        super().__init__()
        self.language = language
        self.encoder, self.projector = eyes(language.config.hidden_size)

    def forward(self, batch: Padded) -> Tensor:
        """Mean loss of the words of the answers."""
        rows = self.projector(self.encoder(batch.pictures)).split([item.rows for item in batch.pictures])
        begin, end = self.projector.begin[None], self.projector.end[None]
        spans = torch.cat([part for inner in rows for part in (begin, inner, end)])
        embedded = self.language.get_input_embeddings()(batch.ids)  # (B, L, D)
        embedded = embedded.masked_scatter(batch.places[..., None], spans)
        return self.language(
            inputs_embeds=embedded, attention_mask=batch.mask, labels=batch.labels, use_cache=False
        ).loss


def with_lora(language: Any, *, rank: int, alpha: float) -> Any:
    """The model with an adapter at every projection of its blocks, and nothing else that trains.

    Raises:
        MissingPackageError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingPackageError(
            "bench: peft is the peer, and is not installed. Try: pip install 'anyany[bench]'"
        ) from None
    targets = [name.rpartition(".")[2] for group in names().block.values() for name in group if name.endswith("_proj")]
    return get_peft_model(language, LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets))
