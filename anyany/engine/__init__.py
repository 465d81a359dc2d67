"""Requests over one backbone and one cache: the engine, its conversations and their events."""

from anyany.engine.conversation import Conversation, Emitter, Opening
from anyany.engine.engine import Engine, Live
from anyany.engine.events import Chunk, Done, Event, Interrupted, SpanEnd, SpanStart, TextDelta, Usage
from anyany.engine.request import Options, make_options

__all__ = [
    "Chunk",
    "Conversation",
    "Done",
    "Emitter",
    "Engine",
    "Event",
    "Interrupted",
    "Live",
    "Opening",
    "Options",
    "SpanEnd",
    "SpanStart",
    "TextDelta",
    "Usage",
    "make_options",
]
