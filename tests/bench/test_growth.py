"""Slopes are those of the points, and laws are measured at the sizes that they tell."""

from __future__ import annotations

import json

import pytest
import torch

from anyany.bench import growth
from anyany.bench.growth import LAWS, Law, slope
from anyany.cli.main import main


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_a_power_is_its_slope(power):
    assert slope([(x, 3 * x**power) for x in (1, 4, 10, 50)]) == pytest.approx(power)


def test_the_table(monkeypatch, capsys):
    """Calls that take as long as their size says; counted for each unit of work, time is constant."""
    now = [0.0]
    monkeypatch.setattr("anyany.bench.measure.time.perf_counter", lambda: now[0])

    def taking(seconds):
        return lambda: now.__setitem__(0, now[0] + seconds)

    def sizes(work):
        return [(n, float(n) if work else 1.0, taking(n / 8)) for n in (1, 2, 4, 8)]

    laws = {
        "whole": Law("calls", lambda: sizes(False), (0.9, 1.1)),
        "each": Law("units", lambda: sizes(True), (0.9, 1.1)),
    }
    monkeypatch.setattr(growth, "LAWS", laws)
    assert main(["bench", "--growth", "--quick", "--json"]) == 0
    whole, each = json.loads(capsys.readouterr().out)
    assert whole["points"] == [[n, n / 8] for n in (1, 2, 4, 8)]
    assert (whole["slope"], whole["held"]) == (pytest.approx(1), True)
    assert (each["slope"], each["held"]) == (pytest.approx(0, abs=1e-9), False)
    assert main(["bench", "--growth", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "ok" in out
    assert "missed" in out


def test_sizes_are_what_they_say():
    pairs = [size for size, *_ in LAWS["attention-keys"].sizes()]
    assert pairs == [8192 // n * n * (n + 1) / 2 for n in (1024, 2048, 4096, 8192)]
    spans = [(size, work) for size, work, _ in LAWS["attention-spans"].sizes()]
    causal = 4096 * 4097 / 2
    for count, work in spans:
        length = 1024 // count
        assert work == causal + count * length * (length - 1) / 2


@pytest.mark.slow
def test_every_law_runs():
    for law in LAWS.values():
        sizes = law.sizes()
        assert len(sizes) >= 4
        with torch.inference_mode():
            for _, _, call in sizes[:2]:
                call()
