"""Series -> normalised patches, and back.

Shapes: T points, C columns, P patches, L points per patch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anyany.errors import MediaError
from anyany.parts import Media, TimeSeries

MAX_ROWS = 1024
LARGEST = float(np.finfo(np.float32).max)
"""What a patch can hold, in units of the series."""
GREATEST = float(np.finfo(np.float64).max)

Array = npt.NDArray[np.float32]


class Units(NamedTuple):
    """Mean and deviation of each column, ``(C,)`` each."""

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]


def series(media: Media) -> TimeSeries:
    """The part, if it is a series.

    Raises:
        MediaError: It is none.
    """
    if not isinstance(media, TimeSeries):
        raise MediaError(f"timeseries: expected a TimeSeries, got {type(media).__name__}")
    return media


def units(media: TimeSeries) -> Units:
    """Units of a series; a column without values has mean 0, one without change has deviation 1."""
    there = np.isfinite(media.values)
    values = np.where(there, media.values, 0.0)
    # Squares of numbers near 1 neither overflow nor vanish, and division by a power of two is exact.
    exponent = np.frexp(np.abs(values).max(axis=0, initial=0.0))[1]
    size = np.ldexp(1.0, exponent - 1)
    values = values / size
    count = np.maximum(there.sum(axis=0), 1)
    mean = values.sum(axis=0) / count
    deviation = np.sqrt((np.where(there, values - mean, 0.0) ** 2).sum(axis=0) / count)
    small = deviation <= 1e-9 * np.abs(mean)
    return Units(mean * size, np.where(small, 1.0, deviation * size))


def cut(media: TimeSeries, scale: Units, patch: int, *, end: bool) -> Array:
    """Patches ``(P, C, L)`` in the given units; NaN where nothing is.

    Args:
        media: The series.
        scale: Its units, or those of the series that it continues.
        patch: L.
        end: Fill up at the front, so that the last patch ends with the last value; else at the back.

    Raises:
        MediaError: More than 1,024 patches.
    """
    values = (media.values / 2 - scale.mean / 2) / (scale.deviation / 2)  # the difference of halves is finite
    values = np.where(np.isfinite(values), values.clip(-LARGEST, LARGEST), np.nan)
    count = -(-len(values) // patch)
    if count * values.shape[1] > MAX_ROWS:
        raise MediaError(
            f"timeseries: at most {MAX_ROWS} patches of {patch} values in one part, got "
            f"{count} x {values.shape[1]} columns; pass fewer columns or a shorter stretch"
        )
    missing = count * patch - len(values)
    padded = np.pad(values, ((missing, 0) if end else (0, missing), (0, 0)), constant_values=np.nan)
    return padded.reshape(count, patch, -1).transpose(0, 2, 1).astype(np.float32)


def ending(media: TimeSeries, count: int) -> Array:
    """The last ``count`` values of each column in its own units, ``(C, count)``; 0, the mean, where nothing is."""
    scale, values = units(media), media.values[-count:]
    scaled = np.nan_to_num((values / 2 - scale.mean / 2) / (scale.deviation / 2), posinf=0.0, neginf=0.0)
    return np.pad(scaled, ((count - len(values), 0), (0, 0))).T.astype(np.float32)


def coordinates(patches: int, columns: int) -> Array:
    """``(P * C, 3)``: patch, column, 0; patches in order of time, their columns side by side."""
    at, column = np.divmod(np.arange(patches * columns), columns)
    return np.stack([at, column, np.zeros_like(at)], axis=1).astype(np.float32)


def example(seed: int) -> TimeSeries:
    """Four days of a noisy daily rhythm, hour by hour."""
    draw = np.random.default_rng(seed)
    t = np.arange(96)
    values = 10 * np.sin(2 * np.pi * t / 24 + draw.uniform(0, 6)) + draw.normal(0, 1, 96).cumsum() + 50
    return TimeSeries.from_array(values, columns=["load"], frequency="h")
