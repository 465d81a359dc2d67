"""What the demo shows to the model: digits that come with scikit-learn, and real test data where it is installed.

Without the data sets, speech and movement are the model's own, and the series is a made one; the demo says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anyany.media.packages import need
from anyany.mini import files
from anyany.mini.sources_time import LOOKBACK
from anyany.parts import Audio, Image, Motion, TimeSeries, Video

if TYPE_CHECKING:
    from anyany.model import Model

TEST_HOUR = 12_800
Pillow = need("PIL.Image", "pillow")


@dataclass(frozen=True)
class Inputs:
    """One of each, and where it comes from."""

    three: Image
    seven: Image
    four_spoken: Audio
    clip: Video
    series: TimeSeries
    short: TimeSeries
    motion: Motion
    origins: tuple[str, ...]


def gather(model: Model) -> Inputs:
    """Collect the inputs; what is not installed is made by the model, and named."""
    digits = need("sklearn.datasets", "scikit-learn").load_digits()
    scans = [digits.images[digits.target == d] for d in range(10)]
    origins = ["pictures: the handwritten digits that come with scikit-learn, 8 x 8 pixels, never seen in training"]
    if files.available("fsdd"):
        audio = next(r.audio for r in files.spoken() if (r.digit, r.index, r.speaker) == (4, 2, "jackson"))
        origins.append("speech: a test recording of the Free Spoken Digit Dataset")
    else:
        audio = model.generate("Say four.", want=["audio"], seed=1).parts[0]
        origins.append("speech: the model's own voice, for want of recordings (set ANYANY_DATA)")
    if files.available("ett"):
        columns, values = files.ett("ETTh1")
        past = values[TEST_HOUR - LOOKBACK : TEST_HOUR, columns.index("OT")]
        series = TimeSeries.from_array(past, columns=["oil temperature"], frequency="h")
        origins.append("series: two weeks of a transformer's oil temperature (ETTh1, test split)")
    else:
        t = np.arange(LOOKBACK)
        rhythm = 18 + 4 * np.sin(2 * np.pi * t / 24) + 0.01 * t + np.random.default_rng(0).normal(0, 0.5, len(t))
        series = TimeSeries.from_array(rhythm, columns=["temperature"], frequency="h")
        origins.append("series: a made daily rhythm, for want of measured ones (set ANYANY_DATA)")
    if files.available("kaykit"):
        motion = files.movements()["waving"]
        origins.append("movement: a clip of the KayKit character")
    else:
        motion = model.generate("Show the movement waving.", want=["motion"], seed=1).parts[0]
        origins.append("movement: the model's own, for want of clips (set ANYANY_DATA)")
    origins.append("clip: a scikit-learn digit, moved across the picture")
    return Inputs(
        three=scan(scans[3][4]), seven=scan(scans[7][9]), four_spoken=audio, clip=moved(scans[6][0]),
        series=series, short=TimeSeries.from_array([12, 11, 12, 13, 12, 12, 16, 22, 29, 35, 41, 44]),
        motion=motion, origins=tuple(origins),
    )  # fmt: skip


def scan(values: npt.NDArray[np.float64]) -> Image:
    """An 8 x 8 scan of 17 levels, enlarged and with a border as digits of the post have."""
    small = Pillow.fromarray((values * 255 / 16).astype(np.uint8))
    canvas = Pillow.new("L", (28, 28))
    canvas.paste(small.resize((20, 20), Pillow.Resampling.BICUBIC), (4, 4))
    return Image.from_array(np.asarray(canvas))


def moved(values: npt.NDArray[np.float64]) -> Video:
    """A scan that crosses the picture from right to left in one second."""
    small = np.asarray(
        Pillow.fromarray((values * 255 / 16).astype(np.uint8)).resize((18, 18), Pillow.Resampling.BICUBIC)
    )
    frames = np.zeros((8, 32, 32), np.uint8)
    for t, frame in enumerate(frames):
        x = 14 - 2 * t
        frame[7:25, max(x, 0) : max(x, 0) + 18] = small
    return Video.from_frames(frames, 8.0)
