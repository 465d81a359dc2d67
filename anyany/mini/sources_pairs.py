"""What binding sees: media, each with the words for it. No pair holds two media: everything meets in text alone."""

from __future__ import annotations

import numpy as np

from anyany.mini import augment
from anyany.mini.sources import Digits
from anyany.mini.sources_time import Captions, Movements, Watch
from anyany.mini.words import NUMBERS, moving
from anyany.parts import Audio, Image, Motion, TimeSeries, Video


class PicturePairs(Digits):
    """A picture and its digit."""

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, index: int, draw: np.random.Generator) -> tuple[Image, str]:
        """One pair."""
        return augment.picture(draw, self.pictures[index]), NUMBERS[self.labels[index]]


class SpeechPairs(Digits):
    """A recording and its digit."""

    def __len__(self) -> int:
        return len(self.recordings)

    def sample(self, index: int, draw: np.random.Generator) -> tuple[Audio, str]:
        """One pair."""
        record = self.recordings[index]
        return augment.speech(draw, record.audio), NUMBERS[record.digit]


class ClipPairs(Watch):
    """A clip and what moves where."""

    def sample(self, index: int, draw: np.random.Generator) -> tuple[Video, str]:
        """One pair."""
        video, direction = self.clip(index, draw)
        return video, moving(int(self.labels[index]), direction)


class MovementPairs(Movements):
    """A movement and its name."""

    def sample(self, index: int, draw: np.random.Generator) -> tuple[Motion, str]:
        """One pair."""
        name, motion = self.items[index]
        return augment.movement(draw, motion), name


class SeriesPairs(Captions):
    """A short series and a sentence about it."""

    def sample(self, index: int, draw: np.random.Generator) -> tuple[TimeSeries, str]:
        """One pair."""
        item = self.items[index]
        return self.series(item, draw), item.captions[draw.integers(len(item.captions))]
