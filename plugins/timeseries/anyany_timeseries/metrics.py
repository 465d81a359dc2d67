"""How good a forecast is. Values that are missing in the truth do not count.

Shapes: T moments, C columns, Q levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from anyany.errors import MediaError
from anyany.parts import TimeSeries
from anyany.plugin import Mean

Array = npt.NDArray[np.float64]


def mse() -> Mean:
    """Mean squared error."""
    return _best(lambda made, truth, _: _mean((made.values - truth.values) ** 2))


def mae() -> Mean:
    """Mean absolute error."""
    return _best(lambda made, truth, _: _mean(np.abs(made.values - truth.values)))


def mase(season: int) -> Mean:
    """Mean absolute scaled error (Hyndman & Koehler 2006): 1 is what the naive forecast errs by within the past.

    Args:
        season: Steps after which the naive forecast repeats a value: 24 for hours with a daily course.
    """

    def scaled(made: TimeSeries, truth: TimeSeries, prompt: Sequence[Any]) -> float:
        past = next((part for part in reversed(prompt) if isinstance(part, TimeSeries)), None)
        if past is None or len(past) <= season or past.values.shape[1] != truth.values.shape[1]:
            raise MediaError(f"timeseries: MASE needs a past of more than {season} moments and as many columns")
        steps = np.abs(past.values[season:] - past.values[:-season])
        if not np.isfinite(steps).any(axis=0).all() or not (scale := np.nanmean(steps, axis=0)).all():
            raise MediaError("timeseries: MASE is not defined where a column of the past repeats itself, or is missing")
        return _mean(np.abs(made.values - truth.values) / scale)

    return _best(scaled)


def quantile_loss() -> Mean:
    """Pinball loss (Koenker & Bassett 1978), the mean over the levels of the forecast."""
    return _best(lambda made, truth, _: float(np.mean(_pinball(made, truth))))


def crps() -> Mean:
    """Continuous ranked probability score, in units of the values.

    Twice the integral of the pinball loss over the levels (Laio & Tamea 2007); each level stands for those that are
    nearer to it than to another. A forecast without bands is certain, and its score is the mean absolute error.
    """

    def score(made: TimeSeries, truth: TimeSeries, _: Sequence[Any]) -> float:
        if made.bands is None:
            return _mean(np.abs(made.values - truth.values))
        levels = np.asarray(made.levels)
        order = np.argsort(levels)
        borders = np.concatenate([[0.0], (levels[order][1:] + levels[order][:-1]) / 2, [1.0]])
        return float(2 * (_pinball(made, truth)[order] * np.diff(borders)).sum())

    return _best(score)


def _pinball(made: TimeSeries, truth: TimeSeries) -> Array:
    """``(Q,)``: the loss of each level."""
    if made.bands is None:
        raise MediaError("timeseries: the forecast has no bands; take a metric of values, such as timeseries/mae")
    above = truth.values - np.asarray(made.bands)  # (Q, T, C)
    levels = np.asarray(made.levels)[:, None, None]
    losses = np.maximum(levels * above, (levels - 1) * above)
    return np.array([_mean(loss) for loss in losses])


def _best(measure: Callable[[TimeSeries, TimeSeries, Sequence[Any]], float]) -> Mean:
    """Against the nearest of the references, each of which must have the shape of the forecast."""

    def best(made: TimeSeries, references: Sequence[TimeSeries], prompt: Sequence[Any]) -> float:
        for truth in references:
            if made.values.shape != truth.values.shape:
                raise MediaError(
                    f"timeseries: expected values {truth.values.shape} as the reference has, got {made.values.shape}"
                )
            if (np.isnan(made.values) & ~np.isnan(truth.values)).any():
                raise MediaError("timeseries: the forecast lacks values that the reference has")
        return min(measure(made, truth, prompt) for truth in references)

    return Mean(best)


def _mean(errors: Array) -> float:
    """Over the values that the truth has."""
    if np.isnan(errors).all():
        raise MediaError("timeseries: the reference has no value; leave the item out")
    return float(np.nanmean(errors))
