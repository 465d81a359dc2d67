"""What a codec with the capability ``streaming`` keeps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anyany.parts import Media
from anyany.testing.codec import any_latents, decode
from anyany.testing.compare import joined, same_media
from anyany.testing.kit import demand, hold
from anyany.testing.subject import Subject


def _streams(subject: Subject) -> bool:
    return subject.streams


def _push(stream: Any, latents: Tensor) -> list[Media]:
    with torch.inference_mode():
        chunk = stream.push(latents)
    return [] if chunk is None else [chunk]


def _close(stream: Any) -> list[Media]:
    with torch.inference_mode():
        chunk = stream.close()
    return [] if chunk is None else [chunk]


@demand(_streams)
def chunks_equal_the_whole(subject: Subject) -> None:
    """What a stream returns, joined, is what ``decode`` gives, however the latents are cut."""
    codec = subject.build()
    latents = any_latents(codec, codec.plan().rows)
    whole = decode(codec, latents)
    for size in (1, 3, len(latents)):
        stream = codec.stream()
        chunks = [chunk for piece in latents.split(size) for chunk in _push(stream, piece)] + _close(stream)
        hold(bool(chunks), "media from a stream", "none", "return the rest in close()")
        same_media(
            joined(chunks, whole), whole, f"decode(), from {size} rows at a time", "hold back what later rows change"
        )


@demand(_streams)
def chunks_come_before_the_end(subject: Subject) -> None:
    """A stream returns something before it is closed: that is what it is for."""
    codec = subject.build()
    stream, chunks = codec.stream(), []
    for row in any_latents(codec, codec.plan().rows).split(1):
        chunks += _push(stream, row)
    hold(
        bool(chunks), "a chunk before close()", "none", "return what is ready from push(), or do not promise streaming"
    )


@demand(_streams)
def streams_do_not_meet(subject: Subject) -> None:
    """Two streams at once, as two requests open them, each give what they give alone."""
    codec = subject.build()
    latents = [any_latents(codec, codec.plan().rows, seed) for seed in range(2)]
    streams = [codec.stream() for _ in latents]
    made: list[list[Media]] = [[], []]
    for rows in zip(*(item.split(4) for item in latents), strict=True):
        for chunks, stream, piece in zip(made, streams, rows, strict=True):
            chunks += _push(stream, piece)
    for chunks, stream, item in zip(made, streams, latents, strict=True):
        whole = decode(codec, item)
        same_media(
            joined(chunks + _close(stream), whole),
            whole,
            "what it gives alone",
            "keep state in the stream, not the codec",
        )


@demand(_streams)
def events_hold_the_whole_part(subject: Subject) -> None:
    """The chunks that ``model.stream`` yields are, joined, the part with which the span ends."""
    from anyany.engine import Chunk, SpanEnd

    events = list(subject.model().stream("What is this?", want=[subject.spec.modality]))
    (whole,) = [event.content for event in events if isinstance(event, SpanEnd)]
    chunks = [event.media for event in events if isinstance(event, Chunk)]
    hold(
        isinstance(whole, Media) and bool(chunks),
        "chunks, and a part",
        f"{len(chunks)} chunks",
        "look at stream() and decode()",
    )
    if isinstance(whole, Media):
        same_media(joined(chunks, whole), whole, "the whole part", "make stream() and decode() agree")
