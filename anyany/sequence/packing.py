"""Packing: whole documents into bins of rows.

Best fit, longest first: at most 11/9 of the optimal number of bins, and close to full bins on the
long-tailed lengths of real mixtures, because short documents fill what long ones leave.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from anyany.errors import TruncationError


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Put documents into bins; equal input gives equal bins.

    Args:
        lengths: Rows of each document.
        budget: Rows that a bin holds.

    Returns:
        Indices of documents per bin, ascending within a bin; each index occurs once.

    Raises:
        TruncationError: A document is longer than the budget; truncate it first.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (rows left, bin), ascending; full bins are not in it
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        if not 0 <= length <= budget:
            raise TruncationError(f"document {index}: {length} rows, a bin holds {budget}; truncate it first")
        at = bisect.bisect_left(room, (length, -1))
        if at == len(room):
            bins.append([])
            left, number = budget, len(bins) - 1
        else:
            left, number = room.pop(at)
        bins[number].append(index)
        if left > length:
            bisect.insort(room, (left - length, number))
    return [sorted(members) for members in bins]


def fill(lengths: Sequence[int], bins: Sequence[Sequence[int]], budget: int) -> float:
    """Share of the rows of all bins that hold something, 0 to 1."""
    return sum(lengths[i] for members in bins for i in members) / max(1, len(bins) * budget)
