"""Intervals: which keys a row sees. Two half-open ranges per row, so O(T) integers and no mask.

Shapes: T rows; ``intervals (T, 2, 2)`` int32 is ``[[prefix_lo, prefix_hi], [own_lo, own_hi]]`` per row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anyany.errors import LayoutError


def check_intervals(intervals: Tensor, keys: int) -> None:
    """Check intervals once, where they are built or come in; kernels rely on it.

    Args:
        intervals: ``(T, 2, 2)`` integers.
        keys: S, the number of keys that the ranges point into.

    Raises:
        LayoutError: A range leaves ``[0, keys]``, runs backwards, or shares a key with the other.
    """
    if intervals.dim() != 3 or tuple(intervals.shape[1:]) != (2, 2):
        raise LayoutError(f"intervals: expected shape (T, 2, 2), got {tuple(intervals.shape)}")
    if intervals.is_floating_point():
        raise LayoutError(f"intervals: expected integers, got {intervals.dtype}; use int32")
    low, high = intervals[..., 0], intervals[..., 1]  # (T, 2)
    wrong = ((low < 0) | (high > keys) | (low > high)).any(1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise LayoutError(
            f"intervals: row {row}: every range must satisfy 0 <= lo <= hi <= {keys}, got {intervals[row].tolist()}"
        )
    overlap = torch.minimum(high[:, 0], high[:, 1]) > torch.maximum(low[:, 0], low[:, 1])
    overlap &= (low < high).all(1)  # an empty range shares nothing, wherever it lies
    if bool(overlap.any()):
        row = int(overlap.nonzero()[0])
        raise LayoutError(f"intervals: the two ranges of row {row} share keys: {intervals[row].tolist()}")


def window(intervals: Tensor, w: int, slots: slice | Tensor | None = None) -> Tensor:
    """A sliding window is one ``max`` on the intervals.

    A row sees at most ``w`` rows up to itself. The rows of the prefix count as standing right before the
    own run, so that the window reaches into the prefix's tail; rows of a span that looks both ways keep
    what lies ahead of them.

    Args:
        intervals: ``(T, 2, 2)``; not changed.
        w: Rows, the row itself included; at least 1.
        slots: ``(T,)`` key index of each row; ``None``: the row's own number, as in a packed batch.

    Raises:
        LayoutError: ``w`` is below 1.
    """
    if w < 1:
        raise LayoutError(f"window: expected at least 1 row, got {w}")
    if slots is None:
        slots = slice(0, len(intervals))
    index = torch.arange(slots.start, slots.stop) if isinstance(slots, slice) else slots
    index = index.to(intervals)  # (T,)
    own, prefix = intervals[:, 1], intervals[:, 0]
    out = intervals.clone()
    out[:, 1, 0] = torch.maximum(own[:, 0], index + 1 - w)
    reach = (w - (index + 1 - own[:, 0])).clamp(min=0)  # rows of the prefix inside the window
    out[:, 0, 0] = torch.maximum(prefix[:, 0], prefix[:, 1] - reach)
    return out
