"""Tasks about series and movements."""

from __future__ import annotations

from typing import Any

import numpy as np

from anyany.eval.scores import Ask, Score, accuracy, measured
from anyany.mini import augment, files
from anyany.mini.sources_time import HORIZON, LOOKBACK, TRAIN_ROWS
from anyany.parts import Motion, TimeSeries
from anyany.plugin.evaluation import Item, Task

TEST = (11_520, 14_400)
"""Hours of ETT that are tested: four months after twelve of training and four of validation."""


@measured
def forecast_etth1(ask: Ask, limit: int) -> Score:
    """96 hours of each channel from the 336 before, all windows of the test split."""
    return _forecast(ask, "ETTh1", limit)


@measured
def forecast_etth2(ask: Ask, limit: int) -> Score:
    """The same of the second transformer."""
    return _forecast(ask, "ETTh2", limit)


def _forecast(ask: Ask, name: str, limit: int) -> Score:
    columns, values = files.ett(name)
    train = values[:TRAIN_ROWS]
    scaled = (values - train.mean(axis=0)) / train.std(axis=0)
    starts = np.arange(TEST[0], TEST[1] - HORIZON + 1)
    if limit < len(starts):
        starts = starts[np.linspace(0, len(starts) - 1, limit).round().astype(int)]
    errors, naive, covered = [], [], []
    for channel, column in enumerate(columns):
        line = scaled[:, channel]
        pasts = [TimeSeries.from_array(line[s - LOOKBACK : s], columns=[column], frequency="h") for s in starts]
        answers = ask([[p, "How does it go on?"] for p in pasts], want=["timeseries"])
        for start, answer in zip(starts, answers, strict=True):
            made, truth = answer.parts[0], line[start : start + HORIZON]
            error = np.resize(made.values[:, 0], HORIZON) - truth
            errors.append((float((error**2).mean()), float(np.abs(error).mean()), len(made) == HORIZON))
            naive.append(float(((line[start - 24 : start][np.arange(HORIZON) % 24] - truth) ** 2).mean()))
            low, high = (np.resize(made.band(q)[:, 0], HORIZON) for q in (0.1, 0.9))
            covered.append(float(((truth >= low) & (truth <= high)).mean()))
    mse, mae, whole = np.mean(errors, axis=0)
    return {
        "metric": "MSE", "value": round(float(mse), 4), "n": len(errors),
        "baseline": f"seasonal naive {np.mean(naive):.3f}", "judge": "standardised by the training split",
        "MAE": round(float(mae), 4), "coverage of the 80 % interval": round(float(np.mean(covered)), 3),
        "of full length": round(float(whole), 3),
    }  # fmt: skip


def series_to_text() -> Task:
    """A TRUCE test series -> a caption, against three by people."""
    known = files.truce("train")
    shapes = np.array([_shape(k.values) for k in known])
    items = []
    for item in files.truce("test"):
        nearest = known[int(np.argmin(((shapes - _shape(item.values)) ** 2).sum(axis=1)))]
        prompt = [TimeSeries.from_array(item.values), "Describe the series."]
        references = tuple((caption,) for caption in item.captions)
        items.append(Item(prompt=prompt, references=references, want=("text",), baseline=(nearest.captions[0],)))
    return Task(
        items=items, metrics=("rouge-l",), baseline="caption of the nearest series", judge="best of 3 references"
    )  # fmt: skip


def _shape(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)


@measured
def text_to_series(ask: Ask, limit: int) -> Score:
    """A TRUCE test caption -> a series; it must correlate with the series it was written about."""
    items = files.truce("test")[:limit]
    answers = ask([f"Make a series: {i.captions[0]}." for i in items], want=["timeseries"])
    draw = np.random.default_rng(0)
    values, chance = [], []
    for answer, item, other in zip(answers, items, draw.permutation(len(items)), strict=True):
        made = answer.parts[0].values[:, 0]
        made = np.interp(np.linspace(0, 1, 12), np.linspace(0, 1, len(made)), made)
        values.append(_correlation(made, item.values))
        chance.append(_correlation(made, items[other].values))
    return {
        "metric": "correlation", "value": round(float(np.mean(values)), 4), "n": len(items),
        "baseline": f"with another series {np.mean(chance):.3f}", "judge": "the series that was described",
    }  # fmt: skip


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float((_shape(a) * _shape(b)).mean())


def motion_to_text() -> Task:
    """Clips cut, retimed and mirrored as in no training step -> the name."""
    draw = np.random.default_rng(123)
    movements = files.movements()
    clips = [(name, augment.movement(draw, motion)) for _ in range(5) for name, motion in movements.items()]
    items = [
        Item(prompt=[motion, "Which movement is this?"], references=((name,),), want=("text",))
        for name, motion in clips
    ]  # fmt: skip
    baseline = f"chance {1 / len(movements):.3f}"
    return Task(items=items, metrics=("exact-match",), baseline=baseline, judge="exact name")


@measured
def text_to_motion(ask: Ask, limit: int) -> Score:
    """A name -> a movement; its real clip must be among the three nearest."""
    library = {name: _moments(motion) for name, motion in files.movements().items()}
    names = list(library)[:limit]
    answers = ask([f"Show the movement {n}." for n in names], want=["motion"])
    right, stray = [], []
    for name, answer in zip(names, answers, strict=True):
        made = _moments(answer.parts[0])
        ranked = sorted(library, key=lambda n: float(((library[n] - made) ** 2).mean()))
        right.append(name in ranked[:3])
        stray.append(_bones(answer.parts[0]))
    score = accuracy(right, baseline=f"chance {3 / len(library):.3f}", judge="nearest clips by joints at 16 moments")
    return {**score, "metric": "top-3 retrieval", "bone lengths stray by": round(float(np.max(stray)), 6)}


def _moments(motion: Motion) -> Any:
    """Joints relative to the root and to the first heading, at 16 moments."""
    places = motion.positions()
    index = np.linspace(0, len(places) - 1, 16).round().astype(int)
    places = places[index] - places[index][:, :1] * np.array([1, 0, 1])
    hips = places[:, 1:].reshape(16, -1, 3)
    left, right = (hips[0, motion.skeleton.names.index(f"upperleg.{side}") - 1] for side in "lr")
    across = left - right
    angle = np.arctan2(across[2], across[0])
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    return hips @ turn


def _bones(motion: Motion) -> float:
    """Largest change of a bone's length, in shares of the longest."""
    places, parents = motion.positions(), motion.skeleton.parents
    lengths = np.linalg.norm(places[:, 1:] - places[:, parents[1:]], axis=-1)
    return float(np.ptp(lengths, axis=0).max() / lengths.max())
