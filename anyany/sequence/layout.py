"""The layout of a packed batch: spans become intervals and coordinates. O(T) integers, no mask.

Shapes: T packed rows, D documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anyany.errors import LayoutError
from anyany.sequence.coordinates import PositionScheme, place
from anyany.sequence.span import Span


@dataclass(frozen=True)
class PlacedSpan:
    """A span and where it lies: index of its document, index in it, first row."""

    document: int
    index: int
    start: int
    span: Span


@dataclass(frozen=True)
class Layout:
    """The integers of a packed batch.

    Attributes:
        spans: All spans in order.
        intervals: ``(T, 2, 2)`` int32: ``[[prefix_lo, prefix_hi], [own_lo, own_hi]]`` of each row.
        coordinates: ``(T, 3)`` float32.
        documents: ``(D + 1,)`` first row of each document, and T.
    """

    spans: tuple[PlacedSpan, ...]
    intervals: Tensor
    coordinates: Tensor
    documents: Tensor

    @property
    def rows(self) -> int:
        """T."""
        return int(self.documents[-1])

    @classmethod
    def pack(cls, documents: Sequence[Sequence[Span]], scheme: PositionScheme) -> Layout:
        """Lay documents out one behind the other; none sees another.

        Args:
            documents: Spans in order; noised spans stand behind the clean ones.
            scheme: Maps declared coordinates to positions.

        Raises:
            LayoutError: A span has no valid length, coordinates or reference.
        """
        total = sum(span.rows for spans in documents for span in spans)
        intervals = np.zeros((total, 2, 2), np.int32)
        coordinates = np.empty((total, 3), np.float32)
        placed: list[PlacedSpan] = []
        bounds = [0]
        for number, spans in enumerate(documents):
            _lay_out(number, spans, bounds[-1], scheme, intervals, coordinates, placed)
            bounds.append(bounds[-1] + sum(span.rows for span in spans))
        return cls(
            tuple(placed), torch.from_numpy(intervals), torch.from_numpy(coordinates), torch.tensor(bounds)
        )


def _lay_out(
    number: int, spans: Sequence[Span], first: int, scheme: PositionScheme,
    intervals: np.ndarray, coordinates: np.ndarray, placed: list[PlacedSpan],
) -> None:  # fmt: skip
    """Fill the rows of one document."""
    start, base = first, 0.0
    starts: list[int] = []
    for index, span in enumerate(spans):
        end = start + span.rows
        starts.append(start)
        if span.noised:
            clean = _clean_span(spans, index, starts)
            intervals[start:end, 0] = first, starts[span.of] + 1
            intervals[start:end, 1] = start, end
            coordinates[start:end] = coordinates[clean]
        else:
            coordinates[start:end], base = place(span, base, scheme)
            intervals[start:end, 1, 0] = first
            intervals[start:end, 1, 1] = np.arange(start + 1, end + 1)
            if span.look == "full":
                inner = slice(start + 1, end - 1) if span.marks else slice(start, end)
                intervals[inner, 1, 1] = inner.stop
        placed.append(PlacedSpan(number, index, start, span))
        start = end


def _clean_span(spans: Sequence[Span], index: int, starts: Sequence[int]) -> slice:
    """Inner rows of the span that a noised one copies."""
    span = spans[index]
    if not 0 <= span.of < index or spans[span.of].noised:
        raise LayoutError(f"{span.component}, part {span.part}: a noised span must copy an earlier clean span")
    if spans[span.of].rows - 2 != span.rows:
        raise LayoutError(
            f"{span.component}, part {span.part}: the noised copy has {span.rows} rows, "
            f"the clean span {spans[span.of].rows - 2}"
        )
    return slice(starts[span.of] + 1, starts[span.of] + 1 + span.rows)


def check_intervals(intervals: Tensor, keys: int) -> None:
    """Check intervals once, where they are built or come in.

    Raises:
        LayoutError: A range leaves ``[0, keys]``, runs backwards, or shares a key with the other.
    """
    if intervals.dim() != 3 or tuple(intervals.shape[1:]) != (2, 2):
        raise LayoutError(f"intervals: expected (T, 2, 2), got {tuple(intervals.shape)}")
    low, high = intervals[..., 0], intervals[..., 1]
    if bool(((low < 0) | (high > keys) | (low > high)).any()):
        raise LayoutError(f"intervals: every range must satisfy 0 <= lo <= hi <= {keys}")
    overlap = torch.minimum(high[:, 0], high[:, 1]) > torch.maximum(low[:, 0], low[:, 1])
    if bool(overlap.any()):
        row = int(overlap.nonzero()[0])
        raise LayoutError(f"intervals: the two ranges of row {row} share keys: {intervals[row].tolist()}")
