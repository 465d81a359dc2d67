"""Parts as vectors in the space in which binding brings them together: the rows with which they enter the backbone.

Shapes: N documents of one part each, T packed rows, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from anyany.model.assembly import embed, placed
from anyany.model.document import Document, Piece

if TYPE_CHECKING:
    from anyany.model.model import Model


def own(document: Document) -> Piece | None:
    """The piece of the part itself, among those of its marks; ``None`` where the part is empty."""
    return next((piece for piece in document.pieces if piece.span.part == 0), None)


def vectors(model: Model, documents: Sequence[Document]) -> Tensor:
    """One vector ``(N, D)`` per document of one part that is not empty: the mean of its rows, marks left out."""
    pieces = placed(documents)
    rows = embed(model, pieces).rows  # (T, D)
    index, lengths = [], []
    for item in (item for item in pieces if item.piece.span.part == 0):
        mark = item.piece.span.marks // 2
        lengths.append(item.piece.span.inner)
        index.extend(range(item.start + mark, item.start + item.piece.span.rows - mark))
    return torch.stack([part.mean(dim=0) for part in rows[torch.tensor(index)].split(lengths)])


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """``(N, D)`` twice -> ``(N, N)``."""
    return F.normalize(left.float(), dim=-1) @ F.normalize(right.float(), dim=-1).T
