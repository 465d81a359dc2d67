"""A prompt on its way into the engine: what is known of it before a row is made, and its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from anyany.parts import Media


class Planned(Protocol):
    """A prompt of which no row has been made."""

    @property
    def rows(self) -> int:
        """How many it has, n."""

    @property
    def sees(self) -> np.ndarray:
        """``(n,)`` how many of the rows each row sees."""

    @property
    def content(self) -> np.ndarray:
        """``(k, 4)`` uint64: what each of the first k rows holds; of the others that is not known.

        Rows with equal content behind rows with equal content are equal.
        """


@dataclass(frozen=True)
class Opening:
    """A prompt, ready for the backbone, but for the rows that are in the cache already.

    Attributes:
        rows: ``(n, D)`` embeddings.
        coordinates: ``(n, 3)``.
        sees: ``(n,)`` how many of these rows each row sees.
        base: Coordinate of the next row.
        latest: Latest part of each modality, from which units carry on.
        before: Rows of the prompt before these, which are in the cache.
    """

    rows: Tensor
    coordinates: Tensor
    sees: Tensor
    base: float
    latest: dict[str, Media] = field(default_factory=dict)
    before: int = 0


class Opener(Protocol):
    """Makes the rows of prompts."""

    def open_replies(self, prompts: Sequence[tuple[Planned, int]]) -> Sequence[Opening]:
        """Rows of each prompt, without so many of its first rows."""


@dataclass(frozen=True)
class Open:
    """Ask for the rows of a prompt: all that begin in a step and name the same opener are made in one call.

    The engine may have the first rows of it in the cache; then the answer's ``opening`` begins behind them.
    """

    opener: Opener
    planned: Planned


def token_content(ids: Sequence[int]) -> np.ndarray:
    """``(n, 4)`` of token ids: the id, and zeros, where a digest has numbers."""
    content = np.zeros((len(ids), 4), np.uint64)
    content[:, 0] = ids
    return content


def item_content(key: bytes, rows: int) -> np.ndarray:
    """``(rows, 4)`` of a media span with a key of 32 bytes."""
    return np.broadcast_to(np.frombuffer(key, np.uint64), (rows, 4))


def common(a: np.ndarray, b: np.ndarray) -> int:
    """How many rows two contents have in common, from the first on."""
    n = min(len(a), len(b))
    differ = (a[:n] != b[:n]).any(1)
    return int(differ.argmax()) if differ.any() else n


def cuts(sees: np.ndarray) -> np.ndarray:
    """Where rows of which each sees the first ``sees (n,)`` may be cut, n among it: none before it sees one behind."""
    return np.flatnonzero(np.maximum.accumulate(sees) <= np.arange(1, len(sees) + 1)) + 1


def last_cut(places: np.ndarray, most: int) -> int:
    """The last of ``cuts`` up to ``most``; 0 where there is none."""
    before = int(np.searchsorted(places, most, side="right"))
    return int(places[before - 1]) if before else 0
