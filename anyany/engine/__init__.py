"""Requests over one backbone and one cache: the engine, its conversations and their events."""

from anyany.engine.conversation import Conversation, Emitter
from anyany.engine.engine import Engine
from anyany.engine.events import Chunk, Done, Event, Interrupted, SpanEnd, SpanStart, TextDelta, Usage
from anyany.engine.live import Live
from anyany.engine.opening import Opening, Planned
from anyany.engine.prefixes import Prefixes
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
    "Planned",
    "Prefixes",
    "SpanEnd",
    "SpanStart",
    "TextDelta",
    "Usage",
    "make_options",
]
