"""Tasks about what the model decides by itself: which modalities a reply has, and whether it knows what it made."""

from __future__ import annotations

from typing import Any

import numpy as np

from anyany.eval import judges
from anyany.eval.scores import Ask, Score, accuracy, measured
from anyany.eval.tasks_time import TEST
from anyany.mini import augment, files
from anyany.mini.sources_time import LOOKBACK
from anyany.mini.words import DIRECTIONS, NUMBERS
from anyany.parts import Image, TimeSeries

Case = tuple[Any, tuple[str, ...]]


@measured
def decides(ask: Ask, limit: int) -> Score:
    """Mixed requests without ``want`` -> the modalities that a person would expect, in order."""
    cases = requests(min(limit, 200))
    answers = ask([prompt for prompt, _ in cases])
    right = [a.modalities == expected for a, (_, expected) in zip(answers, cases, strict=True)]
    return accuracy(right, baseline="always text 0.25", judge="exact sequence of modalities")


def requests(count: int) -> list[Case]:
    """Prompts and the modalities that belong into the reply, twelve kinds in turn."""
    draw = np.random.default_rng(5)
    images, _ = files.mnist("t10k")
    sounds = [r.audio for r in files.spoken() if r.index == 0]
    movements = files.movements()
    columns, hours = files.ett("ETTh1")
    cases: list[Case] = []
    for index in range(count):
        word, way = NUMBERS[draw.integers(10)], list(DIRECTIONS)[draw.integers(4)]
        name = list(movements)[draw.integers(len(movements))]
        picture, sound = Image.from_array(images[draw.integers(len(images))]), sounds[draw.integers(len(sounds))]
        start = int(draw.integers(TEST[0] - LOOKBACK, TEST[1] - LOOKBACK))
        column = int(draw.integers(len(columns)))
        past = hours[start : start + LOOKBACK, column]
        kinds: list[Case] = [
            ([picture, "What digit is this?"], ("text",)),
            ([sound, "What was said?"], ("text",)),
            ([augment.movement(draw, movements[name]), "Name the movement."], ("text",)),
            (f"Say {word}.", ("audio",)),
            (f"Draw a {word}.", ("image",)),
            (f"Show the movement {name}.", ("motion",)),
            (f"Show a {word} that moves {way}.", ("video",)),
            ([TimeSeries.from_array(past, columns=[columns[column]], frequency="h"), "How does it go on?"],
             ("timeseries",)),
            (f"Draw a {word}, then say it.", ("image", "audio")),
            (f"Say {word}, then draw it.", ("audio", "image")),
            (f"Draw a {word}, then write what you drew.", ("image", "text")),
            ([sound, "Write it, then say it."], ("text", "audio")),
        ]  # fmt: skip
        cases.append(kinds[index % len(kinds)])
    return cases


@measured
def follows(ask: Ask, limit: int) -> Score:
    """It draws a digit and writes what it drew -> the word must fit the picture, whatever was asked for."""
    prompts = [f"Draw a {NUMBERS[i % 10]}, then write what you drew." for i in range(min(limit, 200))]
    answers = ask(prompts, want=["image", "text"])
    judge, words = judges.judge("drawn")
    seen = judge.digits(judges.drawn([a.parts[0] for a in answers]))
    right = [a.text == NUMBERS[d] for a, d in zip(answers, seen, strict=True)]
    return accuracy(right, baseline="0.10", judge=words)
