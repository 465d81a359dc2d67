"""Layout of packed sequences: spans, intervals, coordinates. Integers only: no weights, no media."""

from anyany.sequence.coordinates import PositionScheme, place
from anyany.sequence.intervals import check_intervals, window
from anyany.sequence.layout import Layout, PlacedSpan
from anyany.sequence.packing import fill, pack
from anyany.sequence.span import Span, declared_vs_produced
from anyany.sequence.truncation import Truncated, truncate

__all__ = [
    "Layout", "PlacedSpan", "PositionScheme", "Span", "Truncated", "check_intervals", "declared_vs_produced",
    "fill", "pack", "place", "truncate", "window",
]  # fmt: skip
