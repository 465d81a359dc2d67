"""What the model is trained on: clips, series and movements."""

from __future__ import annotations

from typing import Any

import numpy as np

from anyany.mini import augment, files
from anyany.mini.sources import Digits, asked, conversation, given
from anyany.mini.words import (
    CONTINUE,
    DESCRIBE,
    DIRECTIONS,
    FILM,
    MOVE,
    NAME,
    NUMBERS,
    PLOT,
    WATCH,
    choose,
    moving,
)  # fmt: skip
from anyany.parts import Message, TimeSeries, Video

LOOKBACK, HORIZON = 336, 96
TRAIN_ROWS = 8640
"""Hours of ETT that may be trained on: twelve months of 30 days."""


class Watch(Digits):
    """A clip in, what moves where out; or the other way round."""

    def __init__(self, film: float = 0.5) -> None:
        super().__init__()
        self.film = film

    def __len__(self) -> int:
        return len(self.pictures)

    def clip(self, index: int, draw: np.random.Generator) -> tuple[Video, str]:
        """A clip of one digit, and its direction."""
        direction = list(DIRECTIONS)[draw.integers(len(DIRECTIONS))]
        return augment.clip(draw, self.pictures[index], direction), direction

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        video, direction = self.clip(index, draw)
        digit = int(self.labels[index])
        if draw.random() < self.film:
            return given(draw, [choose(draw, FILM, NUMBERS[digit], direction)], video)
        return conversation(draw, asked(draw, video, WATCH), [moving(digit, direction)])


class Clips(Watch):
    """Clips for the training of the video codec."""

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """One clip."""
        return self.clip(index, draw)[0]


class Forecasts:
    """A stretch of one channel in, the next 96 hours out."""

    def __init__(self) -> None:
        self.channels = [
            (name, column, values[:TRAIN_ROWS, i])
            for name in ("ETTh1", "ETTh2")
            for columns, values in [files.ett(name)]
            for i, column in enumerate(columns)
        ]

    def __len__(self) -> int:
        return len(self.channels) * (TRAIN_ROWS - LOOKBACK - HORIZON)

    def stretch(self, index: int, draw: np.random.Generator) -> tuple[TimeSeries, TimeSeries]:
        """Past and future of a window, now and then upside down or with a shorter past."""
        start, channel = divmod(index, len(self.channels))
        _, column, values = self.channels[channel]
        values = values * draw.choice([-1.0, 1.0], p=[0.2, 0.8]) if draw.random() < 0.5 else values
        past = LOOKBACK if draw.random() < 0.8 else int(draw.integers(72, LOOKBACK))
        middle = start + LOOKBACK
        before, after = (
            TimeSeries.from_array(v, columns=[column], frequency="h")
            for v in (values[middle - past : middle], values[middle : middle + HORIZON])
        )
        return before, after

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        before, after = self.stretch(index, draw)
        return conversation(draw, asked(draw, before, CONTINUE), [after])


class Continuations(Forecasts):
    """Pairs of past and future for the training of the series codec."""

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """One pair."""
        return self.stretch(index, draw)


class Captions:
    """A short series in, a sentence about it out; or the other way round."""

    def __init__(self) -> None:
        self.items = files.truce("train")

    def __len__(self) -> int:
        return len(self.items)

    def series(self, item: files.Captioned, draw: np.random.Generator) -> TimeSeries:
        """The series in some unit."""
        return TimeSeries.from_array(item.values * draw.uniform(0.5, 50) + draw.uniform(-50, 50))

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        item = self.items[index]
        caption = item.captions[draw.integers(len(item.captions))]
        series = self.series(item, draw)
        if draw.random() < 0.5:
            return given(draw, [choose(draw, PLOT, caption)], series)
        question = asked(draw, series, DESCRIBE)
        return conversation(draw, question if len(question) > 1 else [*question, DESCRIBE[0]], [caption])


class Movements:
    """A movement in, its name out; or the other way round."""

    def __init__(self, perform: float = 0.5) -> None:
        self.items = sorted(files.movements().items())
        self.perform = perform

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        name, motion = self.items[index]
        if draw.random() < self.perform:
            return given(draw, [choose(draw, MOVE, name)], motion)
        return conversation(draw, asked(draw, augment.movement(draw, motion), NAME), [name])


class MovementClips(Movements):
    """Clips for the training of the motion codec."""

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """One movement."""
        return augment.movement(draw, self.items[index][1], least=0.9)
