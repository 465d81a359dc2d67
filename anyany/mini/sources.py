"""What the model is trained on: conversations about digits, seen, heard, drawn and spoken.

Pictures of digits that go in are never answered with sound, nor sound with pictures: these two meet only
through words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anyany.mini import augment, files
from anyany.mini.words import (
    ANSWER_AND_DRAW,
    ANSWER_AND_SAY,
    BOTH,
    DRAW,
    DRAW_AND_TELL,
    DRAW_IT,
    HEAR,
    HEAR_AND_SAY,
    NUMBERS,
    READ,
    READ_AND_DRAW,
    SAY,
    SAY_IT,
    TELL,
    TURNED,
    choose,
)  # fmt: skip
from anyany.parts import Audio, Image, Media, Message

UNSEEN_SPEAKER = "nicolas"
"""Stays out of all training."""
FIRST_TRAINED = 5
"""Recordings 0 to 4 of each speaker and digit are the official test set."""
UNCONDITIONAL = 0.1
"""Share of what is drawn, spoken, filmed or moved without being asked: the branch of guidance."""

Part = str | Media


def conversation(draw: np.random.Generator, question: Sequence[Part], answer: Sequence[Part]) -> list[Message]:
    """One question and its answer."""
    return [Message("user", tuple(question)), Message("assistant", tuple(answer))]


def asked(draw: np.random.Generator, media: Media, words: Sequence[str]) -> list[Part]:
    """Media and a question about it, in either order, or the media alone."""
    kind = draw.random()
    text = choose(draw, words)
    return [media] if kind < 0.15 else [media, text] if kind < 0.6 else [text, media]


def given(draw: np.random.Generator, question: Sequence[Part], media: Media) -> list[Message]:
    """A request for media; sometimes the media without the request."""
    if draw.random() < UNCONDITIONAL:
        return [Message("assistant", (media,))]
    return conversation(draw, question, [media])


class Digits:
    """Written and spoken digits of the training splits."""

    def __init__(self) -> None:
        self.pictures, self.labels = files.mnist("train")
        self.by_label = [np.flatnonzero(self.labels == d) for d in range(10)]
        self.recordings = [
            r for r in files.spoken() if r.speaker != UNSEEN_SPEAKER and r.index >= FIRST_TRAINED
        ]  # fmt: skip
        self.by_word = [[r.audio for r in self.recordings if r.digit == d] for d in range(10)]

    def raw(self, draw: np.random.Generator, digit: int) -> Image:
        """A picture as it is, to be drawn."""
        return Image.from_array(self.pictures[draw.choice(self.by_label[digit])])

    def seen(self, draw: np.random.Generator, digit: int) -> Image:
        """A picture seen differently each time."""
        return augment.picture(draw, self.pictures[draw.choice(self.by_label[digit])])

    def said(self, draw: np.random.Generator, digit: int) -> Audio:
        """A recording as it is, to be spoken."""
        return self.by_word[digit][draw.integers(len(self.by_word[digit]))]

    def heard(self, draw: np.random.Generator, digit: int) -> Audio:
        """A recording heard differently each time."""
        return augment.speech(draw, self.said(draw, digit))


class Read(Digits):
    """A picture in, the word out."""

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        image = augment.picture(draw, self.pictures[index])
        return conversation(draw, asked(draw, image, READ), [NUMBERS[self.labels[index]]])


class Hear(Digits):
    """A recording in, the word out."""

    def __len__(self) -> int:
        return len(self.recordings)

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        record = self.recordings[index]
        audio = augment.speech(draw, record.audio)
        return conversation(draw, asked(draw, audio, HEAR), [NUMBERS[record.digit]])


def _named(draw: np.random.Generator, word: str, within: Sequence[str], beside: Sequence[str]) -> list[Part]:
    """A request with the word in the sentence, or as a part beside it, where media could stand as well."""
    if draw.random() < 0.6:
        return [choose(draw, within, word)]
    parts: list[Part] = [word, choose(draw, beside)]
    return parts if draw.random() < 0.6 else parts[::-1]


class Draw(Digits):
    """The word in, a picture out."""

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        image = Image.from_array(self.pictures[index])
        return given(draw, _named(draw, NUMBERS[self.labels[index]], DRAW, DRAW_IT), image)


class Say(Digits):
    """The word in, speech out."""

    def __len__(self) -> int:
        return len(self.recordings)

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        record = self.recordings[index]
        return given(draw, _named(draw, NUMBERS[record.digit], SAY, SAY_IT), record.audio)


class Chains(Digits):
    """Several parts in one answer, in the order that was asked for, or in one that the model may choose."""

    def __len__(self) -> int:
        return 10_000

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        digit = int(draw.integers(10))
        word = NUMBERS[digit]
        kind = draw.integers(6)
        if kind == 0:
            return conversation(draw, [choose(draw, BOTH, word)], [self.raw(draw, digit), self.said(draw, digit)])
        if kind == 1:
            return conversation(draw, [choose(draw, TURNED, word)], [self.said(draw, digit), self.raw(draw, digit)])
        if kind == 2:
            return conversation(draw, [choose(draw, DRAW_AND_TELL, word)], [self.raw(draw, digit), word])
        if kind == 3:
            question = asked(draw, self.seen(draw, digit), READ_AND_DRAW)
            return conversation(draw, _worded(question, READ_AND_DRAW), [word, self.raw(draw, digit)])
        if kind == 4:
            question = asked(draw, self.heard(draw, digit), HEAR_AND_SAY)
            return conversation(draw, _worded(question, HEAR_AND_SAY), [word, self.said(draw, digit)])
        answer: list[Part] = [word]
        for choice in draw.permutation(2)[: draw.integers(1, 3)]:
            answer.append(self.raw(draw, digit) if choice else self.said(draw, digit))
        return conversation(draw, [choose(draw, TELL, word)], answer)


def _worded(question: list[Part], words: Sequence[str]) -> list[Part]:
    """A question that cannot do without its words."""
    return question if len(question) > 1 else [*question, words[0]]


class Arithmetic(Digits):
    """Two digits, written, drawn or spoken, added or subtracted; the result as a word, drawn or spoken."""

    def __len__(self) -> int:
        return 10_000

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        a, b = (int(x) for x in draw.integers(0, 10, 2))
        sign = "plus" if draw.random() < 0.5 or a < b else "minus"
        result = a + b if sign == "plus" else a - b
        kinds = draw.choice(3, 2)
        question: list[Part] = [self._operand(draw, a, kinds[0]), sign, self._operand(draw, b, kinds[1])]
        if all(isinstance(part, str) for part in question):
            question = [" ".join(str(part) for part in question)]
        answer: list[Part] = [NUMBERS[result]]
        kind = draw.integers(3)
        if result < 10 and kind == 1 and 2 not in kinds:
            question.append(choose(draw, ANSWER_AND_DRAW))
            answer.append(self.raw(draw, result))
        elif result < 10 and kind == 2 and 1 not in kinds:
            question.append(choose(draw, ANSWER_AND_SAY))
            answer.append(self.said(draw, result))
        return conversation(draw, question, answer)

    def _operand(self, draw: np.random.Generator, digit: int, kind: int) -> Part:
        return NUMBERS[digit] if kind == 0 else self.seen(draw, digit) if kind == 1 else self.heard(draw, digit)


class Pictures(Digits):
    """Digits for the training of the picture codec."""

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """One picture."""
        return Image.from_array(self.pictures[index])


class Recordings(Digits):
    """Spoken digits for the training of the speech codec; pitch and speed vary."""

    def __len__(self) -> int:
        return len(self.recordings)

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """One recording."""
        return augment.pitch(self.recordings[index].audio, draw.uniform(0.9, 1.1))
