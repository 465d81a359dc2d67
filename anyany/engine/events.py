"""What ``stream`` yields, in the order in which it happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyany.parts import Media


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a request cost.

    Attributes:
        prompt_rows: Rows of the prompt.
        shared_rows: Those of them that an earlier request had left in the cache.
        rows: Rows made, by modality.
        steps: Engine steps in which the request took part.
        seconds: Wall time from admission to the end.
    """

    prompt_rows: int = 0
    shared_rows: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class SpanStart:
    """A part of this modality begins."""

    part: int
    modality: str


@dataclass(frozen=True)
class TextDelta:
    """More text of the current part."""

    part: int
    text: str


@dataclass(frozen=True)
class Chunk:
    """More media of the current part, from a streaming codec."""

    part: int
    media: Media


@dataclass(frozen=True)
class SpanEnd:
    """The part is complete.

    Attributes:
        part: Its index in the reply.
        content: The whole part.
        finish: ``stop``, or ``length`` where a budget closed it.
        logprob: Sum of the log-probabilities of its samples, where its head defines them.
    """

    part: int
    content: str | Media
    finish: str
    logprob: float | None = None


@dataclass(frozen=True)
class Interrupted:
    """The request was cancelled, or failed; ``error`` is ``None`` when it was cancelled."""

    error: BaseException | None = None


@dataclass(frozen=True)
class Done:
    """The reply is complete."""

    finish: str
    usage: Usage


Event = SpanStart | TextDelta | Chunk | SpanEnd | Interrupted | Done
