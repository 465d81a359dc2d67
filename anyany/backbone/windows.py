"""Sliding windows: a property of a layer, and one ``max`` on its intervals."""

from __future__ import annotations

import torch
from torch import Tensor


def window_intervals(intervals: Tensor, slots: slice | Tensor | None, window: int) -> Tensor:
    """Cut ``intervals (T, 2, 2)`` so that a row sees at most ``window`` rows up to itself.

    The rows of the prefix stand right before the run, so that the window reaches into its tail. Rows
    of a span that looks both ways keep what lies ahead of them.

    Args:
        intervals: Of the rows.
        slots: Key index of each row; ``None`` is the row's own number.
        window: Rows, the row itself included.
    """
    if isinstance(slots, slice):
        index = torch.arange(slots.start, slots.stop, dtype=torch.int32)
    else:
        index = torch.arange(len(intervals)) if slots is None else slots
    index = index.to(intervals)
    out = intervals.clone()
    out[:, 1, 0] = torch.maximum(intervals[:, 1, 0], index + 1 - window)
    behind = (window - (index + 1 - intervals[:, 1, 0])).clamp(min=0)  # rows of the prefix in reach
    out[:, 0, 0] = torch.maximum(intervals[:, 0, 0], intervals[:, 0, 1] - behind)
    return out
