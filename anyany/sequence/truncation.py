"""Truncation that never cuts a span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from anyany.errors import TruncationError
from anyany.sequence.span import Span

Policy = Literal["error", "drop-span", "drop-sample"]


@dataclass(frozen=True)
class Truncated:
    """What is left and what went.

    Attributes:
        keep: Indices of spans that stay; empty when the sample was dropped.
        dropped: Indices of spans that went.
        rows: Rows that stay.
    """

    keep: tuple[int, ...]
    dropped: tuple[int, ...]
    rows: int


def truncate(spans: Sequence[Span], limit: int, policy: Policy = "error") -> Truncated:
    """Bring a document to at most ``limit`` rows.

    ``drop-span`` drops whole media spans, the earliest first, until the rest fits; when it does not fit
    without media either, the sample goes. Noised copies go with the span that they copy.

    Raises:
        TruncationError: The document is too long and the policy is ``error``.
    """
    rows = sum(span.rows for span in spans)
    everything = tuple(range(len(spans)))
    if rows <= limit:
        return Truncated(everything, (), rows)
    if policy == "error":
        raise TruncationError(
            f"document: {rows} rows, the limit is {limit}; raise it, or choose the policy 'drop-span' or 'drop-sample'"
        )
    if policy not in ("drop-span", "drop-sample"):
        raise TruncationError(f"policy: expected 'error', 'drop-span' or 'drop-sample', got {policy!r}")
    gone: set[int] = set()
    if policy == "drop-span":
        for index, span in enumerate(spans):
            if rows <= limit:
                break
            if span.view != "text" and not span.noised:
                copies = {i for i, s in enumerate(spans) if s.noised and s.of == index}
                gone |= {index} | copies
                rows -= sum(spans[i].rows for i in {index} | copies)
    if rows > limit:
        return Truncated((), everything, 0)
    return Truncated(tuple(i for i in everything if i not in gone), tuple(sorted(gone)), rows)
