"""Truncation that never cuts a span, and says what it dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from anyany.errors import TruncationError
from anyany.sequence.span import Span

Policy = Literal["error", "drop-span", "drop-sample"]


@dataclass(frozen=True)
class Truncated:
    """The report: what stays and what went.

    Attributes:
        keep: Indices of spans that stay, ascending; empty when the sample was dropped.
        dropped: Indices of spans that went, ascending.
        rows: Rows that stay.
    """

    keep: tuple[int, ...]
    dropped: tuple[int, ...]
    rows: int

    @property
    def whole(self) -> bool:
        """Nothing was dropped."""
        return not self.dropped

    def take(self, spans: Sequence[Span]) -> tuple[Span, ...]:
        """The spans that stay; noised ones point at the new place of their clean span."""
        place = {old: new for new, old in enumerate(self.keep)}
        kept = (spans[i] for i in self.keep)
        return tuple(replace(span, of=place[span.of]) if span.noised else span for span in kept)


def truncate(spans: Sequence[Span], limit: int, policy: Policy = "error") -> Truncated:
    """Bring a document to at most ``limit`` rows.

    ``drop-span`` drops whole media spans, the earliest first, until the rest fits; when it does not fit
    without media either, the sample goes. Noised copies go with the span that they copy. ``drop-sample``
    drops the document as a whole.

    Args:
        spans: Of one document.
        limit: Rows.
        policy: What to do about a document that is too long.

    Raises:
        TruncationError: The document is too long and the policy is ``error``, or there is no such policy.
    """
    if policy not in ("error", "drop-span", "drop-sample"):
        raise TruncationError(f"policy: expected 'error', 'drop-span' or 'drop-sample', got {policy!r}")
    rows = sum(span.rows for span in spans)
    everything = tuple(range(len(spans)))
    if rows <= limit:
        return Truncated(everything, (), rows)
    if policy == "error":
        raise TruncationError(
            f"document: {rows} rows, the limit is {limit}; raise it, or choose the policy 'drop-span' or 'drop-sample'"
        )
    gone, rows = _earliest_media(spans, rows, limit) if policy == "drop-span" else (set(), rows)
    if rows > limit:
        return Truncated((), everything, 0)
    return Truncated(tuple(i for i in everything if i not in gone), tuple(sorted(gone)), rows)


def _earliest_media(spans: Sequence[Span], rows: int, limit: int) -> tuple[set[int], int]:
    """Indices of media spans to drop, with their noised copies, and the rows that are left."""
    copies: dict[int, list[int]] = {}
    for index, span in enumerate(spans):
        if span.noised:
            copies.setdefault(span.of, []).append(index)
    gone: set[int] = set()
    for index, span in enumerate(spans):
        if rows <= limit:
            break
        if span.view != "text" and not span.noised:
            group = [index, *copies.get(index, ())]
            gone.update(group)
            rows -= sum(spans[i].rows for i in group)
    return gone, rows
