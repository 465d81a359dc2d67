"""Layout of packed sequences: spans, intervals, coordinates. Integers only: no weights, no media."""

from anyany.sequence.coordinates import PositionScheme, place
from anyany.sequence.layout import Layout, PlacedSpan, check_intervals
from anyany.sequence.packing import pack
from anyany.sequence.span import Span
from anyany.sequence.truncation import Truncated, truncate

__all__ = [
    "Layout", "PlacedSpan", "PositionScheme", "Span", "Truncated", "check_intervals", "pack", "place", "truncate",
]  # fmt: skip
