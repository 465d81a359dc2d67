"""What is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anyany.demo.inputs import Inputs
from anyany.parts import Media


@dataclass(frozen=True)
class Conversation:
    """A title, a prompt, and options of ``generate``; without options the model chooses the modalities."""

    title: str
    prompt: tuple[str | Media, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def conversations(x: Inputs) -> list[Conversation]:
    """All of them, in order."""
    return [
        Conversation("A picture in, a word out", ("What digit is this?", x.seven)),
        Conversation("Speech in, a word out", (x.four_spoken, "Which digit do you hear?")),
        Conversation("Words in, a picture and speech out", ("Draw a four, then say it.",)),
        Conversation(
            "A picture plus speech; the answer written, spoken and drawn",
            (x.three, "plus", x.four_spoken), {"want": ["text", "audio", "image"]},
        ),
        Conversation("The model chooses: what belongs to an eight?", ("Tell me about eight.",)),
        Conversation("It draws, then reads its own drawing", ("Draw a five, then write what you drew.",)),
        Conversation("A clip in, what moves where out", (x.clip, "What moves where?")),
        Conversation("Words in, a clip out", ("Show a seven that moves left.",)),
        Conversation("A series in, its next four days out", (x.series, "How does it go on?")),
        Conversation("A series in, a caption out", (x.short, "Describe the series.")),
        Conversation("A description in, a series out", ("Make a series: falls at the beginning and then stays flat.",)),
        Conversation("A movement in, its name out", (x.motion, "Which movement is this?")),
        Conversation("A name in, a movement out", ("Show the movement jump full long.",)),
    ]  # fmt: skip
