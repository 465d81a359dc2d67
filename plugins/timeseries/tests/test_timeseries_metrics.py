"""Errors of forecasts: by hand, and against the closed form of the normal distribution."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from anyany.errors import MediaError
from anyany.parts import TimeSeries
from anyany.plugin.registry import registry


def build(name, **config):
    (spec,) = (s for s in registry().metrics if s.id == f"timeseries/{name}")
    assert not spec.higher_is_better
    return registry().build(spec, **config)


def series(*values):
    return TimeSeries.from_array(np.array(values, float))


def banded(values, levels, bands):
    values = np.array(values, float).reshape(len(values), -1)
    return TimeSeries(values, levels=levels, bands=np.array(bands, float).reshape(len(levels), *values.shape))


@pytest.mark.parametrize(("name", "value"), [("mae", 5 / 3), ("mse", 11 / 3)])
def test_errors_by_hand(name, value):
    assert build(name).measure(series(1, 2, 3), [series(2, 5, 2)], ()) == pytest.approx(value)


def test_missing_truth_does_not_count_and_a_missing_forecast_does():
    assert build("mae").measure(series(1, 2, 3), [series(2, np.nan, 2)], ()) == 1.0
    assert build("mae").measure(series(1, np.nan, 3), [series(2, np.nan, 2)], ()) == 1.0
    with pytest.raises(MediaError, match="lacks values"):
        build("mae").measure(series(1, np.nan), [series(1, 1)], ())
    with pytest.raises(MediaError, match="the reference has no value"):
        build("mae").measure(series(1, 2), [series(np.nan, np.nan)], ())


def test_mase_by_hand():
    past = series(1, 3, 2, 6)  # steps 2, 1, 4; over two moments 1, 3
    made, truth = series(5, 5), series(6, 8)
    assert build("mase").measure(made, [truth], ["go on", past]) == pytest.approx(2 / (7 / 3))
    assert build("mase", season=2).measure(made, [truth], [past]) == pytest.approx(2 / 2)


def test_mase_scales_each_column_by_itself():
    past = np.array([[0.0, 0], [1, 10], [2, 20]])
    made, truth = np.array([[3.0, 30]]), np.array([[4.0, 40]])
    pair = [TimeSeries.from_array(x) for x in (made, truth)]
    assert build("mase").measure(pair[0], [pair[1]], [TimeSeries.from_array(past)]) == pytest.approx(1.0)


@pytest.mark.parametrize("prompt", [[], ["text"], [series(1)], [series(2, 2, 2)]])
def test_mase_without_a_past_that_moves(prompt):
    with pytest.raises(MediaError, match="MASE"):
        build("mase").measure(series(1), [series(2)], prompt)


def test_quantile_loss_by_hand():
    made = banded([0, 0], (0.1, 0.5), [[-1, -1], [0, 2]])
    truth = series(1, 1)
    # 0.1: 0.1 * 2 twice; 0.5: 0.5 * 1, and 0.5 * 1 from above
    assert build("quantile-loss").measure(made, [truth], ()) == pytest.approx((0.2 + 0.5) / 2)
    with pytest.raises(MediaError, match="has no bands"):
        build("quantile-loss").measure(series(1, 1), [truth], ())


def test_crps_by_hand():
    """Two levels, which stand for 0 to 0.5 and for 0.5 to 1."""
    made = banded([0], (0.25, 0.75), [[-1], [1]])
    expected = 2 * (0.5 * 0.25 * 3 + 0.5 * 0.75 * 1)
    assert build("crps").measure(made, [series(2)], ()) == pytest.approx(expected)
    turned = banded([0], (0.75, 0.25), [[1], [-1]])
    assert build("crps").measure(turned, [series(2)], ()) == pytest.approx(expected)


def test_crps_of_a_forecast_without_bands_is_its_absolute_error():
    assert build("crps").measure(series(1, 2), [series(2, 4)], ()) == 1.5
    certain = banded([1, 2], (0.2, 0.9), [[1, 2], [1, 2]])
    levels = 2 * np.sum([0.55 * 0.2, 0.45 * 0.9]) * 1.5  # the truth lies above both
    assert build("crps").measure(certain, [series(2, 4)], ()) == pytest.approx(levels)


@pytest.mark.parametrize("truth", [-1.3, 0.0, 2.2])
def test_crps_of_many_levels_is_that_of_the_distribution(truth):
    """Gneiting & Raftery 2007: z (2 F(z) - 1) + 2 f(z) - 1 / sqrt(pi)."""
    normal, count = NormalDist(), 2000
    levels = tuple((np.arange(count) + 0.5) / count)
    made = banded([0.0], levels, [[normal.inv_cdf(q)] for q in levels])
    exact = truth * (2 * normal.cdf(truth) - 1) + 2 * normal.pdf(truth) - 1 / np.sqrt(np.pi)
    assert build("crps").measure(made, [series(truth)], ()) == pytest.approx(exact, rel=2e-3)


def test_shapes_must_agree_and_the_nearest_reference_counts():
    with pytest.raises(MediaError, match=r"expected values \(3, 1\) as the reference has, got \(2, 1\)"):
        build("mae").measure(series(1, 2), [series(1, 2, 3)], ())
    assert build("mae").measure(series(1), [series(5), series(2)], ()) == 1.0
