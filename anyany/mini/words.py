"""The words of the small world: numbers, directions, and how people ask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
)  # fmt: skip
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""Rows and columns of a step."""

READ = ("What digit is this?", "Which digit do you see?", "What number is it?", "Read it.", "What is this?")
HEAR = ("What digit is this?", "Which digit do you hear?", "What number is it?", "What was said?", "What is this?")
DRAW = ("Draw a {}.", "Draw {}.", "Write the digit {} by hand.", "Show me a picture of {}.", "Show a {}.")
SAY = ("Say {}.", "Say the word {}.", "Speak: {}.", "How does {} sound?", "Pronounce {}.")
DRAW_IT = ("Draw it.", "Show it as a picture.", "Write it by hand.")
SAY_IT = ("Say it.", "Speak it.", "How does it sound?")
BOTH = ("Draw a {0}, then say it.", "Draw {0} and say it.", "Show me a {0}, then speak it.")
TURNED = ("Say {0}, then draw it.", "Say {0} and draw it.", "Speak {0}, then show me a picture.")
DRAW_AND_TELL = ("Draw a {0}, then write what you drew.", "Draw {0}, then tell me what it is.")
TELL = ("Tell me about {}.", "What do you know about {}?", "Tell me everything about {}.", "{}!")
READ_AND_DRAW = ("Read it, then draw it.", "What digit is this? Draw another one.", "Write it, then draw it.")
HEAR_AND_SAY = ("Write it, then say it.", "What was said? Say it again.", "Write down what was said, then say it.")
ANSWER_AND_DRAW = ("Draw the result.", "Then draw it.", "Show the result as a picture.")
ANSWER_AND_SAY = ("Say the result.", "Then say it.", "Speak the result.")
WATCH = ("What moves where?", "What happens?", "What moves, and where to?", "Describe the clip.", "What is this?")
FILM = ("Show a {} that moves {}.", "Show a clip of a {} that moves {}.", "Make a video: a {} moves {}.")
CONTINUE = ("How does it go on?", "Continue the series.", "Forecast.", "What comes next?", "Predict the next values.")
DESCRIBE = ("Describe the series.", "What does the series do?", "Describe it in words.", "What happens?")
PLOT = ("Make a series: {}.", "A series that {}.", "Plot this: {}.")
NAME = ("Which movement is this?", "What is the movement called?", "Name the movement.", "What is this?")
MOVE = ("Show the movement {}.", "Do the movement {}.", "Move: {}.", "Show me {} as a movement.")

ALL = (
    *READ, *HEAR, *DRAW, *SAY, *BOTH, *TURNED, *DRAW_AND_TELL, *TELL, *READ_AND_DRAW, *HEAR_AND_SAY,
    *ANSWER_AND_DRAW, *ANSWER_AND_SAY, *WATCH, *FILM, *CONTINUE, *DESCRIBE, *PLOT, *NAME, *MOVE,
)  # fmt: skip


def choose(draw: np.random.Generator, phrases: Sequence[str], *values: str) -> str:
    """One of several ways to ask, spelled a little differently each time."""
    text = phrases[draw.integers(len(phrases))].format(*values)
    if draw.random() < 0.3:
        text = text.rstrip(".?!")
    return text.lower() if draw.random() < 0.3 else text


def moving(digit: int, direction: str) -> str:
    """The sentence for a clip."""
    return f"a {NUMBERS[digit]} moves {direction}"
