"""What a component answers at run time: structural protocols, no base class to inherit.

Weights live in a ``torch.nn.Module``; this module imports no torch, so that a manifest may read it.
Every length and coordinate of a span is known from ``prepare`` or ``plan``, before any forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from anyany.parts import Media
    from anyany.plugin.specs import Codes, Vectors

Look = Literal["causal", "full"]
Unit = Literal["index", "grid", "seconds"]


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """Where the rows of a span lie, relative to its start.

    Attributes:
        values: ``(rows, 3)`` float32: time, height, width.
        unit: ``index`` and ``grid`` count positions on all axes; with ``seconds`` the first axis is
            in seconds and the scheme of the backbone says how many positions a second has.
    """

    values: np.ndarray
    unit: Unit = "grid"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One media item, ready for the forward pass of the component that prepared it.

    Attributes:
        arrays: Numpy arrays by name, made from the media without any weight; picklable.
        rows: Exact number of rows of the span, marks not counted.
        coordinates: ``None`` stands for one index per row.
        look: ``full`` lets the rows of the span see each other both ways.
    """

    arrays: Mapping[str, np.ndarray]
    rows: int
    coordinates: Coordinates | None = None
    look: Look = "causal"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a span that is still to be generated will lie.

    Attributes:
        rows: Largest number of rows; the exact number where ``fixed``.
        fixed: The span always has ``rows`` rows, so that no end has to be predicted.
        coordinates: Coordinates of all ``rows`` rows, or ``None`` for one index per row.
    """

    rows: int
    fixed: bool
    coordinates: Coordinates | None = None


@runtime_checkable
class Encoder(Protocol):
    """Media -> features, for understanding. A ``torch.nn.Module`` with these answers."""

    width: int
    """Width of a feature row."""

    def example(self, seed: int) -> Media:
        """A tiny valid item; deterministic; no file, no network."""

    def prepare(self, media: Media) -> Prepared:
        """Decoded arrays with units -> arrays for ``forward``; uses no weights."""

    def __call__(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(sum of rows, width)`` of all items, in order."""


class CodecStream(Protocol):
    """Turns latents into media as they come; what it returns, joined, equals ``decode``."""

    def push(self, latents: Tensor) -> Media | None:
        """Take ``(n, ...)`` more latents; return what is ready, if anything."""

    def close(self) -> Media | None:
        """Return the rest."""


@runtime_checkable
class Codec(Protocol):
    """Media <-> latents, for output and for training targets. A ``torch.nn.Module``.

    ``like`` is the latest earlier part of the same modality in the sequence, or ``None``: units,
    statistics, skeleton and rate carry over from it, in training and in generation alike.
    """

    latents: Codes | Vectors

    def example(self, seed: int) -> Media:
        """A tiny valid item; deterministic; no file, no network."""

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """Decoded arrays with units -> arrays for ``encode``; uses no weights."""

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """Latents of all items: ``(sum of rows, books)`` int64 or ``(sum of rows, dim)`` float."""

    def plan(self, like: Media | None = None) -> Plan:
        """Layout of a span that is to be generated."""

    def decode(self, latents: Tensor, like: Media | None = None) -> Media:
        """Latents of one span -> media. Any row count from 1 to ``plan().rows`` gives a valid part."""

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """Named scalar terms whose sum trains the codec itself (reconstruction, commitment, ...)."""


@runtime_checkable
class QuantileCodec(Codec, Protocol):
    """A codec whose media can carry how sure the model is."""

    def decode(self, latents: Tensor, like: Media | None = None, quantiles: Tensor | None = None) -> Media:
        """As ``Codec.decode``; ``quantiles (rows, dim, Q)`` belong to the levels of ``latents``."""


@runtime_checkable
class StreamingCodec(Codec, Protocol):
    """A codec that can hand out media before its span is complete."""

    def stream(self, like: Media | None = None) -> CodecStream:
        """Open a stream for one span."""
