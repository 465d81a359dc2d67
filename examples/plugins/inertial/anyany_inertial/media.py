"""What inertial sensors measure, at any rate, and how it lies in rows at one rate.

Shapes: T readings, R rows of N readings each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from anyany.errors import EmptyMediaError, MediaError
from anyany.parts import Media
from anyany.plugin import Coordinates

AXES = 6


@dataclass(frozen=True, eq=False)
class Inertial(Media):
    """Readings of an accelerometer and a gyroscope.

    Attributes:
        readings: ``(T, 6)`` float32: acceleration in m/s^2 on three axes, then turning in rad/s around them.
        rate: Readings a second, in Hz.
    """

    modality: ClassVar[str] = "inertial"
    readings: np.ndarray
    rate: float

    def __post_init__(self) -> None:
        readings = np.asarray(self.readings, np.float32)
        if readings.ndim != 2 or readings.shape[1] != AXES:
            raise MediaError(
                f"inertial: expected readings (T, {AXES}), got {readings.shape}; three axes of each sensor"
            )
        if not len(readings):
            raise EmptyMediaError("inertial: expected at least one reading, got none")
        if not np.isfinite(readings).all() or not 0 < self.rate < np.inf:
            raise MediaError(
                f"inertial: expected finite readings at a rate above 0 Hz, got NaN, infinity or {self.rate}"
            )
        self._freeze(readings=readings, rate=float(self.rate))

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.readings) / self.rate

    def at(self, rate: float) -> np.ndarray:
        """Readings ``(T', 6)`` at another rate, each the mean over its share of the time, so that nothing aliases."""
        count = max(1, round(self.seconds * rate))
        total = np.pad(np.cumsum(self.readings, axis=0, dtype=np.float64), ((1, 0), (0, 0)))
        edges = np.linspace(0, len(self.readings), count + 1)
        upto = np.stack([np.interp(edges, np.arange(len(total)), axis) for axis in total.T], axis=1)
        return np.diff(upto, axis=0) * count / len(self.readings)


def example(seed: int) -> Inertial:
    """A swing whose pace follows from the seed: tiny, valid, no file, no network."""
    draw = np.random.default_rng(seed)
    time = np.arange(draw.integers(12, 24)) / 10
    swing = np.sin(2 * np.pi * draw.uniform(0.5, 2.0) * time)[:, None] * draw.normal(0, 3, AXES)
    return Inertial(swing + draw.normal(0, 0.1, swing.shape), 10.0)


def to_rows(media: Media, rate: float, patch: int, most: int) -> np.ndarray:
    """``(R, N * 6)``, on a scale on which standing and running both are seen; NaN fills up the last row.

    Raises:
        MediaError: Not inertial, or of more than ``most`` rows.
    """
    if not isinstance(media, Inertial):
        raise MediaError(f"inertial: expected Inertial, got {type(media).__name__}")
    longest = most * patch / rate
    if media.seconds > longest:
        raise MediaError(f"inertial: at most {longest:g} s, got {media.seconds:g} s; cut it")
    readings = media.at(rate)
    rows = -(-len(readings) // patch)
    padded = np.pad(readings, ((0, rows * patch - len(readings)), (0, 0)), constant_values=np.nan)
    return (np.sign(padded) * np.log1p(np.abs(padded))).reshape(rows, -1).astype(np.float32)


def from_rows(rows: np.ndarray, rate: float) -> Inertial:
    """The way back from ``(R, N * 6)``; readings that are not there are left out."""
    values = rows.reshape(-1, AXES).clip(-LOUDEST, LOUDEST)
    readings = np.sign(values) * np.expm1(np.abs(values))
    return Inertial(readings[~np.isnan(readings).any(axis=1)], rate)


LOUDEST = float(np.log1p(1000.0))
"""No sensor worn by a person measures more; what a model dreams up stays finite."""


def places(rows: int, rate: float, patch: int) -> Coordinates:
    """Time in seconds, no height, no width."""
    values = np.zeros((rows, 3), np.float32)
    values[:, 0] = np.arange(rows) * patch / rate
    return Coordinates(values=values, unit="seconds")
