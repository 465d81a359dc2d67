"""The series plugin keeps the contract."""

from __future__ import annotations

import subprocess
import sys

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
    return registry().build(registry().codec("timeseries")).eval()


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
    made = codec.decode(torch.zeros(2, 25) + torch.eye(25)[24], past)
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
    again = codec.decode(codec.encode([codec.prepare(series)]), series)
    np.testing.assert_allclose(again.values, values, rtol=1e-5)


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
