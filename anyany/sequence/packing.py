"""Packing: whole documents into bins of rows."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from anyany.errors import TruncationError


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Best fit, longest first: indices of documents per bin, each bin at most ``budget`` rows.

    Raises:
        TruncationError: A document is longer than the budget.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (rows left, bin), ascending
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[index] > budget:
            raise TruncationError(f"document {index}: {lengths[index]} rows, a bin holds {budget}; truncate it first")
        at = bisect.bisect_left(room, (lengths[index], -1))
        if at == len(room):
            bins.append([index])
            left, number = budget - lengths[index], len(bins) - 1
        else:
            left, number = room.pop(at)
            bins[number].append(index)
            left -= lengths[index]
        if left:
            bisect.insort(room, (left, number))
    return bins
