"""Spans declare coordinates; the scheme of the backbone maps them to positions.

Axes are time, height, width. Text moves on all three at once. ``place`` looks at one span only, so that
a conversation that grows span by span gets the coordinates of the whole layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from anyany.errors import LayoutError
from anyany.sequence.span import Span

_GUARD = 1e-4
_RELATIVE = 2.0**-21
"""Seconds come as float32: 0.04 s at 25 per second must become 1, not 0; hours of it, too."""


@dataclass(frozen=True)
class PositionScheme:
    """How declared coordinates become positions.

    Attributes:
        kind: ``index``: one position per row, whatever a span declares (1-D RoPE). ``span``: the inner
            rows of a media span share one position (Transfusion, arXiv 2408.11039). ``grid``: time,
            height and width count from the start of the span (M-RoPE of Qwen2-VL, arXiv 2409.12191).
            ``time``: as ``grid``, with seconds on the first axis (TMRoPE of Qwen2.5-Omni, arXiv 2503.20215).
        per_second: Positions in a second, for ``time``.
    """

    kind: Literal["index", "span", "grid", "time"] = "index"
    per_second: float = 25.0

    def __post_init__(self) -> None:
        if self.kind not in ("index", "span", "grid", "time"):
            raise LayoutError(f"position scheme: expected index, span, grid or time, got {self.kind!r}")
        if not self.per_second > 0:
            raise LayoutError(f"position scheme: expected per_second above 0, got {self.per_second}")


def place(span: Span, base: float, scheme: PositionScheme) -> tuple[np.ndarray, float]:
    """Absolute coordinates of the rows of a span.

    Args:
        span: With or without marks; each mark takes one position on all axes.
        base: Position of its first row.
        scheme: Of the backbone.

    Returns:
        Coordinates ``(rows, 3)`` float32 and the position of the row that follows: one more than the
        largest coordinate of the span.

    Raises:
        LayoutError: The declared coordinates do not fit the rows.
    """
    inner = span.inner
    begin = 1 if span.marks else 0
    offsets, extent = _inner(span, inner, scheme)
    rows = np.empty((span.rows, 3), np.float32)
    rows[begin : begin + inner] = base + begin + offsets
    after = base + begin + extent
    if span.marks:
        rows[0], rows[-1] = base, after
        after += 1
    return rows, after


def _inner(span: Span, inner: int, scheme: PositionScheme) -> tuple[np.ndarray, float]:
    """Offsets ``(inner, 3)`` or ``(inner, 1)`` and how many positions they take."""
    declared = span.coordinates
    if declared is not None and declared.values.shape != (inner, 3):
        raise LayoutError(
            f"{span.component}, part {span.part}: expected coordinates ({inner}, 3), got {declared.values.shape}"
        )
    if scheme.kind == "span" and span.view != "text":
        return np.zeros((inner, 1), np.float32), float(min(inner, 1))
    if scheme.kind in ("index", "span") or declared is None or inner == 0:
        return np.arange(inner, dtype=np.float32)[:, None], float(inner)
    values = np.asarray(declared.values, np.float32)
    if not np.isfinite(values).all() or (values < 0).any():
        raise LayoutError(f"{span.component}, part {span.part}: coordinates must be finite and not negative")
    if declared.unit == "seconds":
        values = values.copy()
        values[:, 0] = _seconds(values[:, 0].astype(np.float64), scheme)
    return values, float(values.max()) + 1.0


def _seconds(times: np.ndarray, scheme: PositionScheme) -> np.ndarray:
    """Positions ``(inner,)`` of times: whole positions, rounded down; a grid counts the moments instead."""
    if scheme.kind == "grid":
        return np.unique(times, return_inverse=True)[1]
    positions = times * scheme.per_second
    return np.floor(positions + _GUARD + positions * _RELATIVE)
