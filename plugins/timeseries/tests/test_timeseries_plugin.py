"""The series plugin keeps the contract."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch

from anyany.errors import MediaError
from anyany.parts import Image, TimeSeries
from anyany.plugin.registry import registry


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return registry().build(registry().encoder("timeseries")).eval()


@pytest.fixture
def codec():
    """One that forecasts something."""
    torch.manual_seed(0)
    codec = registry().build(registry().codec("timeseries")).eval()
    torch.nn.init.normal_(codec.forecast.weight, std=0.05)
    return codec


def silent(codec):
    """The codec, forecasting nothing."""
    torch.nn.init.zeros_(codec.forecast.weight)
    return codec


def walk(length, columns=1, seed=0):
    values = np.random.default_rng(seed).normal(size=(length, columns)).cumsum(axis=0) * 30 + 1000
    return TimeSeries(values)


def test_the_manifest_is_light():
    code = "import anyany_timeseries, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_declared_equals_produced_and_batch_equals_singles(encoder, codec):
    media = [walk(12), walk(100, 3), walk(336, 2, seed=1)]
    for component, run in ((encoder, encoder), (codec, codec.encode)):
        batch = [component.prepare(m) for m in media]
        together = run(batch)
        assert [p.rows for p in batch] == [1, 15, 28]
        torch.testing.assert_close(together, torch.cat([run([p]) for p in batch]), rtol=1e-4, atol=1e-5, equal_nan=True)
        np.testing.assert_array_equal(batch[1].coordinates.values[:4, :2], [[0, 0], [0, 1], [0, 2], [1, 0]])


@pytest.mark.parametrize(("length", "columns"), [(1, 1), (12, 1), (24, 2), (25, 3), (96, 1)])
def test_a_series_comes_back(codec, length, columns):
    past, future = walk(60, columns), walk(length, columns, seed=5)
    latents = codec.encode([codec.prepare(future, past)])
    again = codec.decode(latents, past)
    np.testing.assert_allclose(again.values, future.values, rtol=1e-5)
    assert again.columns == past.columns


@pytest.mark.parametrize(
    "column",
    [[1e308, -1e308, 5e307, np.nan], [1e308, 1e308, 1e308], [-1.7e308, 1.7e308], [1e-290, -1e-290, 0.0],
     [np.inf, 1.0, 2.0], [np.nan, np.nan], [3.0, 3.0, 3.0]],
)  # fmt: skip
def test_any_finite_number_has_units(encoder, codec, column):
    past = TimeSeries(np.array(column)[:, None])
    assert encoder([encoder.prepare(past)]).isfinite().all()
    made = codec.decode(torch.tensor([[*np.linspace(-3, 3, 24), 1.0]]), past)
    assert np.isfinite(made.values).all()
    again = codec.decode(codec.encode([codec.prepare(past, past)]), past).values[:, 0]
    there = np.isfinite(column)
    np.testing.assert_allclose(again[there], np.array(column)[there], rtol=1e-6)
    calm = TimeSeries(np.zeros((4, 1)))
    assert not np.isinf(codec.prepare(past, calm).arrays["rows"]).any()


def test_units_times_and_columns_carry_over(codec):
    times = np.datetime64("2020-01-01T00", "ns") + np.arange(48) * np.timedelta64(1, "h")
    past = TimeSeries(walk(48).values, ("oil",), times, "h")
    made = silent(codec).decode(torch.zeros(2, 25) + torch.eye(25)[24], past)
    assert made.columns == ("oil",)
    assert made.frequency == "h"
    assert made.times[0] == np.datetime64("2020-01-03T00")
    np.testing.assert_allclose(made.values, past.values.mean(), rtol=1e-6)


def test_quantiles_become_bands_in_the_units_of_the_past(codec):
    past = walk(48)
    quantiles = torch.arange(9.0).sub(4).expand(2, 25, 9)
    made = codec.decode(torch.cat([torch.zeros(2, 24), torch.ones(2, 1)], 1), past, quantiles)
    assert made.bands.shape == (9, 48, 1)
    np.testing.assert_allclose(made.bands[4], made.values)
    np.testing.assert_allclose(made.bands[5] - made.bands[4], past.values.std(), rtol=1e-6)


def test_missing_values_and_constant_columns(encoder, codec):
    values = walk(50, 3).values.copy()
    values[3:9, 0], values[:, 1], values[:, 2] = np.nan, np.nan, 7.0
    series = TimeSeries(values)
    assert encoder([encoder.prepare(series)]).isfinite().all()
    again = codec.decode(codec.encode([codec.prepare(series, series)]), series)
    np.testing.assert_allclose(again.values, values, rtol=1e-5)


def test_rows_hold_what_the_forecast_of_each_column_does_not_say(codec):
    past, future = walk(400, 3), walk(250, 3, seed=5)  # eleven patches, of which eight are forecast
    rows = codec.encode([codec.prepare(future, past)]).view(11, 3, 25).detach()
    plain = silent(deepcopy(codec)).encode([codec.prepare(future, past)]).view(11, 3, 25).detach()
    assert plain.isfinite().sum() == rows.isfinite().sum()
    for column in range(3):
        end = past.values[-codec.past :, column]
        scaled = (end - past.values[:, column].mean()) / past.values[:, column].std()
        said = codec.forecast.weight.detach().numpy() @ scaled
        got = (plain - rows)[:, column, :24].numpy().ravel()
        np.testing.assert_allclose(got[:192], said, atol=1e-4)
        assert not np.nan_to_num(got[192:]).any()
    torch.testing.assert_close(rows[..., 24], plain[..., 24])


def test_a_short_past_counts_as_its_mean_before_it_begins(codec):
    short = TimeSeries.from_array([1.0, 2.0, 4.0, 1.0])
    end = codec.prepare(walk(24), short).arrays["past"]
    np.testing.assert_allclose(end[0, -4:], (short.values[:, 0] - 2) / np.sqrt(1.5), rtol=1e-6)
    assert not end[0, :-4].any()
    assert not codec.prepare(walk(24)).arrays["past"].any()


def test_the_codec_learns_to_go_on(codec):
    """Of sines of one day, the linear map soon knows the next day."""
    draw = np.random.default_rng(0)
    hours = np.arange(120)

    def pair():
        values = draw.uniform(1, 9) * np.sin(2 * np.pi * hours / 24 + draw.uniform(0, 6)) + draw.uniform(-50, 50)
        return codec.prepare(TimeSeries.from_array(values[96:]), TimeSeries.from_array(values[:96]))

    optimizer = torch.optim.Adam(codec.parameters(), lr=3e-3)
    for _ in range(60):
        loss = codec.loss([pair() for _ in range(16)])["forecast"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert codec.loss([pair() for _ in range(16)])["forecast"] < 0.02


def test_any_number_of_rows_decodes(codec):
    past = walk(30, 3)
    for rows in range(1, 8):
        assert codec.decode(torch.zeros(rows, 25), past).values.shape[1] == 3


def test_gradients_reach_every_parameter(encoder):
    encoder([encoder.prepare(encoder.example(0))]).square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_wrong_input_is_refused(encoder, codec):
    with pytest.raises(MediaError, match="expected a TimeSeries, got Image"):
        encoder.prepare(Image.from_array(np.zeros((4, 4))))
    with pytest.raises(MediaError, match="at most 1024 patches of 24 values in one part, got 2000 x 1 columns"):
        codec.prepare(walk(48_000))
