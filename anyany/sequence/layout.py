"""The layout of a packed batch: spans become intervals and coordinates. O(T) integers, no mask.

Shapes: T packed rows, D documents.

What a row sees: everything of its document up to itself; an inner row of a span that looks both ways,
up to the last inner row. Marks are causal, so the end mark sees the whole span and the begin mark none of
it. A noised row sees what the first inner row of its clean span saw, and its own noised rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anyany.errors import LayoutError
from anyany.sequence.coordinates import PositionScheme, place
from anyany.sequence.intervals import check_intervals
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
            LayoutError: A span has no valid length, coordinates, place or reference.
        """
        lengths = [sum(span.rows for span in spans) for spans in documents]
        bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        intervals = np.zeros((bounds[-1], 2, 2), np.int32)
        coordinates = np.empty((bounds[-1], 3), np.float32)
        placed: list[PlacedSpan] = []
        for number, spans in enumerate(documents):
            first, end = bounds[number], bounds[number + 1]
            starts = _fill(spans, int(first), scheme, intervals, coordinates[first:end])
            placed += [PlacedSpan(number, i, starts[i], span) for i, span in enumerate(spans)]
        layout = cls(
            tuple(placed),
            torch.from_numpy(intervals),
            torch.from_numpy(coordinates),
            torch.from_numpy(bounds),
        )
        check_intervals(layout.intervals, layout.rows)
        return layout


def _fill(
    spans: Sequence[Span], first: int, scheme: PositionScheme, intervals: np.ndarray, coordinates: np.ndarray
) -> list[int]:
    """Fill one document.

    Args:
        spans: Of the document.
        first: Its first row in the batch.
        scheme: Maps declared coordinates to positions.
        intervals: ``(T, 2, 2)`` of the whole batch.
        coordinates: ``(rows, 3)`` of this document.

    Returns:
        First row of each span, in the batch.
    """
    start, base = first, 0.0
    starts: list[int] = []
    for index, span in enumerate(spans):
        end = start + span.rows
        starts.append(start)
        own, here = intervals[start:end, 1], coordinates[start - first : end - first]
        if span.noised:
            clean = _clean(spans, index, starts)
            intervals[start:end, 0] = first, clean  # all before the clean rows, begin mark included
            own[:] = start, end
            here[:] = coordinates[clean - first : clean - first + span.rows]
        else:
            if index and spans[index - 1].noised:
                raise LayoutError(
                    f"{span.component}, part {span.part}: it stands behind a noised span and would see it; "
                    "put noised spans at the end of their document"
                )
            here[:], base = place(span, base, scheme)
            own[:, 0] = first
            own[:, 1] = np.arange(start + 1, end + 1)
            if span.look == "full":
                inner = own[1:-1] if span.marks else own
                inner[:, 1] = end - 1 if span.marks else end
        start = end
    return starts


def _clean(spans: Sequence[Span], index: int, starts: Sequence[int]) -> int:
    """First inner row of the clean span that the noised span ``index`` copies."""
    noised = spans[index]
    if not 0 <= noised.of < index or spans[noised.of].noised:
        raise LayoutError(
            f"{noised.component}, part {noised.part}: a noised span must copy an earlier clean span, "
            f"got of={noised.of} at place {index}"
        )
    clean = spans[noised.of]
    if clean.inner != noised.rows:
        raise LayoutError(
            f"{noised.component}, part {noised.part}: the noised copy has {noised.rows} rows, "
            f"its clean span {clean.inner} inner rows; they must be equal"
        )
    return starts[noised.of] + (1 if clean.marks else 0)
