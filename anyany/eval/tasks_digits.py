"""Tasks about digits: seen, heard, drawn, spoken, added, filmed. Only test splits are asked about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from anyany.eval import judges
from anyany.eval.scores import Ask, Score, accuracy, measured, share
from anyany.mini import augment, files
from anyany.mini.sources import FIRST_TRAINED, UNSEEN_SPEAKER
from anyany.mini.words import DIRECTIONS, NUMBERS, moving
from anyany.parts import Audio, Image, Media, Video
from anyany.plugin.evaluation import Item, Task

ASK = "What digit is this?"


def image_to_text() -> Task:
    """Pictures of the MNIST test set -> the word."""
    images, labels = files.mnist("t10k")
    items = [_named(Image.from_array(i), d) for i, d in zip(images, labels, strict=True)]
    return Task(items=items, metrics=("exact-match",), baseline="linear classifier 0.92", judge="exact word")


def speech_to_text() -> Task:
    """Recordings 0 to 4 of the speakers that were trained on -> the word."""
    records = [r for r in files.spoken() if r.index < FIRST_TRAINED and r.speaker != UNSEEN_SPEAKER]
    return _hear(records, "SVM on 40 mels 0.98")


def speech_to_text_unseen() -> Task:
    """All recordings of a speaker that stayed out of training -> the word."""
    return _hear([r for r in files.spoken() if r.speaker == UNSEEN_SPEAKER], "SVM on mels 0.68")


def _hear(records: Sequence[files.Spoken], baseline: str) -> Task:
    items = [_named(r.audio, r.digit) for r in records]
    return Task(items=items, metrics=("exact-match",), baseline=baseline, judge="exact word")


def _named(media: Media, digit: int) -> Item:
    return Item(prompt=[media, ASK], references=((NUMBERS[digit],),), want=("text",))


@measured
def text_to_image(ask: Ask, limit: int) -> Score:
    """The word -> a picture, with the sampling that the model ships with."""
    digits = [i % 10 for i in range(min(limit, 1000))]
    answers = ask([f"Draw a {NUMBERS[d]}." for d in digits], want=["image"])
    return judged_images([a.parts[0] for a in answers], digits, extra=True)


def judged_images(images: Sequence[Any], digits: Sequence[int], *, extra: bool = False) -> Score:
    """How many pictures show what they should; with the spread and the distance to the training set."""
    judge, words = judges.judge("drawn")
    x = judges.drawn(images)
    right = [a == b for a, b in zip(judge.digits(x), digits, strict=True)]
    score = accuracy(right, baseline="0.10", judge=words)
    if extra:
        train, _ = files.mnist("train")
        test, truth = files.mnist("t10k")
        real = judges.drawn([Image.from_array(i) for i in test[: len(images)]])
        score["spread"] = round(_spread(x.flatten(1).numpy(), np.array(digits)), 3)
        score["spread of real digits"] = round(_spread(real.flatten(1).numpy(), truth[: len(real)]), 3)
        pool = judges.drawn([Image.from_array(i) for i in train[:20000]]).flatten(1)
        score["nearest training picture"] = round(_nearest(x.flatten(1), pool), 3)
        score["nearest of real test pictures"] = round(_nearest(real.flatten(1), pool), 3)
    return score


def _spread(x: np.ndarray, labels: np.ndarray) -> float:
    """Mean distance from the mean picture of a digit."""
    each = [np.linalg.norm(x[labels == d] - x[labels == d].mean(axis=0), axis=1).mean() for d in set(labels.tolist())]
    return float(np.mean(each))


def _nearest(x: Any, pool: Any) -> float:
    """Mean distance to the nearest of a pool."""
    return float(torch.cdist(x, pool).min(dim=1).values.mean())


def text_to_speech() -> Task:
    """The word -> speech."""
    digits = [i % 10 for i in range(500)]
    return _said([f"Say {NUMBERS[d]}." for d in digits], digits, ("audio",))


def image_to_speech() -> Task:
    """A picture -> speech at once; the pair was never trained."""
    digits, prompts = _pictures(300)
    return _said([[p, "Say it."] for p in prompts], digits, ("audio",))


def image_to_speech_via_text() -> Task:
    """A picture -> the word, then speech."""
    digits, prompts = _pictures(300)
    return _said([[p, "Write it, then say it."] for p in prompts], digits, ("text", "audio"))


def _said(prompts: Sequence[Any], digits: Sequence[int], want: tuple[str, ...]) -> Task:
    """What is said must be the digit, by ear of the judge."""
    items = [
        Item(prompt=prompt, references=((NUMBERS[digit],),), want=want)
        for prompt, digit in zip(prompts, digits, strict=True)
    ]  # fmt: skip
    return Task(items=items, metrics=("spoken-digit",), baseline="0.10", judge=judges.judge("spoken")[1])


@measured
def speech_to_image(ask: Ask, limit: int) -> Score:
    """A recording -> a picture at once; the pair was never trained."""
    digits, prompts = _recordings(min(limit, 200))
    answers = ask([[p, "Draw it."] for p in prompts], want=["image"])
    return judged_images([a.parts[0] for a in answers], digits)


@measured
def speech_to_image_via_text(ask: Ask, limit: int) -> Score:
    """A recording -> the word, then a picture."""
    digits, prompts = _recordings(min(limit, 200))
    answers = ask([[p, "Write it, then draw it."] for p in prompts], want=["text", "image"])
    return judged_images([a.parts[1] for a in answers], digits)


def _pictures(count: int) -> tuple[list[int], list[Image]]:
    images, labels = files.mnist("t10k")
    return [int(d) for d in labels[:count]], [Image.from_array(i) for i in images[:count]]


def _recordings(count: int) -> tuple[list[int], list[Audio]]:
    records = [r for r in files.spoken() if r.index < FIRST_TRAINED and r.speaker != UNSEEN_SPEAKER]
    chosen = [records[i * len(records) // count] for i in range(count)]
    return [r.digit for r in chosen], [r.audio for r in chosen]


def arithmetic() -> Task:
    """Two digits, each a word, a test picture or a test recording, plus or minus -> the word of the result."""
    draw = np.random.default_rng(7)
    images, labels = files.mnist("t10k")
    heard, sounds = _recordings(200)
    items = []
    for _ in range(500):
        a, b = (int(d) for d in draw.integers(0, 10, 2))
        sign = "plus" if draw.random() < 0.5 or a < b else "minus"
        operands: list[Any] = []
        for digit in (a, b):
            kind = draw.integers(3)
            if kind == 0:
                operands.append(NUMBERS[digit])
            elif kind == 1:
                operands.append(Image.from_array(images[draw.choice(np.flatnonzero(labels == digit))]))
            else:
                operands.append(sounds[draw.choice(np.flatnonzero(np.array(heard) == digit))])
        parts = [operands[0], sign, operands[1]]
        prompt = [" ".join(parts)] if all(isinstance(p, str) for p in parts) else parts
        result = NUMBERS[a + b if sign == "plus" else a - b]
        items.append(Item(prompt=prompt, references=((result,),), want=("text",)))
    return Task(items=items, metrics=("exact-match",), baseline="most frequent result 0.10", judge="exact word")


def video_to_text() -> Task:
    """A clip of a test digit -> which digit moves where."""
    draw = np.random.default_rng(11)
    images, labels = files.mnist("t10k")
    items = []
    for index in range(1000):
        direction = list(DIRECTIONS)[draw.integers(4)]
        clip, said = augment.clip(draw, images[index], direction), moving(int(labels[index]), direction)
        items.append(Item(prompt=[clip, "What moves where?"], references=((said,),), want=("text",)))
    return Task(items=items, metrics=("exact-match",), baseline="0.025", judge="exact sentence")


@measured
def text_to_video(ask: Ask, limit: int) -> Score:
    """A digit and a direction -> a clip; most frames must show the digit, and it must move that way."""
    cases = [(i % 10, list(DIRECTIONS)[i // 10 % 4]) for i in range(min(limit, 200))]
    answers = ask([f"Show a {NUMBERS[d]} that moves {way}." for d, way in cases], want=["video"])
    judge, words = judges.judge("drawn")
    right = []
    for answer, (digit, way) in zip(answers, cases, strict=True):
        crops, places = _follow(answer.parts[0])
        seen = judge.digits(judges.drawn(crops))
        moved = places[-1] - places[0]
        axis = int(np.argmax(np.abs(moved)))
        went = np.zeros(2, int)
        went[axis] = np.sign(moved[axis])
        right.append(share([d == digit for d in seen]) > 0.5 and tuple(went.tolist()) == DIRECTIONS[way])
    return accuracy(right, baseline="0.025", judge=f"{words}, by majority of frames; direction of the centroid")


def _follow(video: Video) -> tuple[list[Image], list[np.ndarray]]:
    """Each frame around its centroid, scaled as MNIST is; and the centroids."""
    crops, places = [], []
    for frame in video.frames:
        light = frame[..., 0].astype(np.float32)
        rows, columns = np.indices(light.shape)
        weight = max(float(light.sum()), 1e-6)
        centre = np.array([(rows * light).sum(), (columns * light).sum()]) / weight
        padded = np.pad(frame[..., 0], 16)
        top, left = (round(float(c)) + 16 - 11 for c in centre)
        crops.append(Image.from_array(padded[top : top + 23, left : left + 23]))
        places.append(centre)
    return crops, places
