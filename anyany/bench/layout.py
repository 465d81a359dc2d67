"""Laying out a sequence of many parts: time, and whether it grows with the parts and no faster."""

from __future__ import annotations

from collections.abc import Callable

from anyany.bench.measure import Figure, quartiles, rounds_of
from anyany.sequence import Layout, PositionScheme, Span

MANY, FEW = 10_000, 1_000
LIMIT = 1.0


def layout(rounds: int) -> Figure:
    """Seconds for 10,000 parts, against one second."""
    times = rounds_of((pack(MANY),), rounds)
    return Figure(
        id=f"layout-{MANY}",
        what=f"lay out {MANY:,} parts, text and media in turn, in one sequence",
        quartiles=quartiles([LIMIT / spent for (spent,) in times]),
        peer=f"{LIMIT:g} s",
        goal=1.0,
    )


def growth(rounds: int) -> Figure:
    """Time of a part among few, against a part among many: 1 is linear growth."""
    times = rounds_of((pack(MANY), pack(FEW)), rounds)
    return Figure(
        id="layout-growth",
        what=f"time per part: {FEW:,} parts over {MANY:,} parts",
        quartiles=quartiles([(few / FEW) / (many / MANY) for many, few in times]),
        peer="linear growth",
        goal=0.8,
    )


def pack(parts: int) -> Callable[[], object]:
    """Lays out ``parts`` parts: 8 tokens of text, then 16 media rows that look both ways."""
    spans = [
        Span(component="text", view="text", rows=8, part=part)
        if part % 2 == 0
        else Span(component="picture", view="features", rows=18, part=part, look="full")
        for part in range(parts)
    ]
    scheme = PositionScheme("index")
    return lambda: Layout.pack([spans], scheme)
