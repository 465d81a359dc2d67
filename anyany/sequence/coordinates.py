"""Spans declare coordinates; the scheme of the backbone maps them to positions.

Axes are time, height, width. Text moves on all three at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from anyany.errors import LayoutError
from anyany.sequence.span import Span


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


def place(span: Span, base: float, scheme: PositionScheme) -> tuple[np.ndarray, float]:
    """Absolute coordinates of the rows of a span.

    Args:
        span: With or without marks.
        base: Position of its first row.
        scheme: Of the backbone.

    Returns:
        Coordinates ``(rows, 3)`` float32 and the position of the row that follows.

    Raises:
        LayoutError: The declared coordinates do not fit the rows.
    """
    inner = span.rows - span.marks
    if inner < 0:
        raise LayoutError(f"{span.component}, part {span.part}: {span.rows} rows cannot hold {span.marks} marks")
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
    if span.coordinates is not None and span.coordinates.values.shape != (inner, 3):
        raise LayoutError(
            f"{span.component}, part {span.part}: expected coordinates ({inner}, 3), "
            f"got {span.coordinates.values.shape}"
        )
    media = span.view != "text"
    if scheme.kind == "span" and media:
        return np.zeros((inner, 1), np.float32), float(min(inner, 1))
    if scheme.kind == "index" or span.coordinates is None or inner == 0:
        return np.arange(inner, dtype=np.float32)[:, None], float(inner)
    values = np.asarray(span.coordinates.values, np.float32)
    if not np.isfinite(values).all() or (values < 0).any():
        raise LayoutError(f"{span.component}, part {span.part}: coordinates must be finite and not negative")
    if span.coordinates.unit == "seconds":
        rate = scheme.per_second
        values = values.copy()
        values[:, 0] = np.floor(values[:, 0] * rate + 1e-4)
    return values, float(values.max()) + 1.0
