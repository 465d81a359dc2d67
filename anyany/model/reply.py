"""What ``generate`` returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from anyany.engine.events import Done, Event, SpanEnd, Usage
from anyany.parts import Media


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Parts in the order in which the model made them.

    Attributes:
        parts: Strings and media.
        finish: Why the reply ended: ``stop``, ``length`` or ``stop_string``.
        finishes: The same for each part.
        logprobs: Log-probability of each part, ``None`` where its head defines none.
        usage: Rows, steps and seconds.
    """

    parts: tuple[str | Media, ...]
    finish: str
    finishes: tuple[str, ...]
    logprobs: tuple[float | None, ...]
    usage: Usage

    @classmethod
    def collect(cls, events: Iterable[Event]) -> Reply:
        """The reply that a whole stream of events makes up."""
        events = list(events)
        ends = [e for e in events if isinstance(e, SpanEnd)]
        done = next(e for e in events if isinstance(e, Done))
        return cls(
            parts=tuple(e.content for e in ends), finish=done.finish, finishes=tuple(e.finish for e in ends),
            logprobs=tuple(e.logprob for e in ends), usage=done.usage,
        )  # fmt: skip

    @property
    def text(self) -> str:
        """All text of the reply, joined by blanks."""
        return " ".join(part for part in self.parts if isinstance(part, str))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modality of each part."""
        return tuple("text" if isinstance(part, str) else part.modality for part in self.parts)

    def __iter__(self) -> Iterator[str | Media]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def _repr_html_(self) -> str:
        from html import escape

        return "".join(f"<p>{escape(p)}</p>" if isinstance(p, str) else p._repr_html_() for p in self.parts)
