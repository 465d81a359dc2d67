"""The examples run, on tiny models with random weights and on mini where its weights are."""

from __future__ import annotations

import json
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import anyany
from anyany import Image, TimeSeries
from anyany.backbone import BackboneConfig
from anyany.model import TextTokenizer

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
LONGEST = 60
MINI = pytest.param(
    "mini",
    marks=pytest.mark.skipif(
        not (ROOT / "anyany" / "mini" / "weights").is_dir(), reason="the weights of mini are not in this checkout"
    ),
)

Run = Callable[..., str]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A checkpoint with pictures, sound and series, and random weights."""
    torch.manual_seed(0)
    model = anyany.compose(
        backbone=BackboneConfig(width=32, layers=2, heads=4, sections=(2, 1, 1), scheme="time"),
        tokenizer=TextTokenizer.train(["What digit is this? Read it, then draw it. Say four."], 300),
        encoders=["image", "audio", "timeseries"],
        decoders=["image", "audio", "timeseries"],
    )
    path = tmp_path_factory.mktemp("models") / "tiny"
    model.save(path)
    return path


@pytest.fixture(params=["tiny", MINI])
def model(request, tiny) -> str:
    return str(tiny) if request.param == "tiny" else request.param


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    """Runs a program as ``python examples/...`` would, in a folder of its own; returns what it prints."""

    def run(name: str, *words: object) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_there_is_a_test_of_each_and_none_is_long():
    programs = sorted(EXAMPLES.glob("*.py"))
    assert programs
    tests = Path(__file__).read_text(encoding="utf-8")
    for program in programs:
        assert f'run("{program.name}"' in tests, program.name
        assert len(program.read_text(encoding="utf-8").splitlines()) <= LONGEST, program.name


def test_describe_and_draw(run, model, tmp_path):
    Image.from_array(np.eye(40)).save(tmp_path / "given.png")
    for words in ([], ["given.png"]):
        printed = run("01_describe_and_draw.py", *words, "--model", model, "--out", "drawn.png")
        assert "it reads:" in printed
        assert Image.open(tmp_path / "drawn.png").width > 0


def test_stream_speech(run, model, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    player = shlex.join([sys.executable, "-c", "import sys; open('heard.raw', 'wb').write(sys.stdin.buffer.read())"])
    printed = run("02_stream_speech.py", "Say four.", "--model", model, "--out", "said.wav", "--player", player)
    samples, rate = soundfile.read(tmp_path / "said.wav")
    assert rate == 8000
    assert printed.count("s of sound") >= 1
    heard = np.frombuffer((tmp_path / "heard.raw").read_bytes(), np.int16)
    assert len(heard) == len(samples) > 0


def test_write_a_modality(run):
    printed = run("03_write_a_modality.py")
    notes = json.loads(printed)
    assert 1 <= len(notes) <= 16
    assert all(0 <= pitch < 128 and 0 <= length < 128 for pitch, length in notes)


def test_train_a_tiny_model(run, tmp_path):
    for steps in (3, 5):  # the second run goes on
        printed = run("04_train_a_tiny_model.py", "--steps", steps, "--out", "runs")
        assert all(f"{word}: reads " in printed for word in ("left", "right", "top", "bottom"))
        for part in ("codec", "light"):
            assert (tmp_path / "runs" / part / "latest").read_text().strip() == f"step-{steps:08}"


@pytest.mark.slow
def test_codes_in_another_model(run, model, tmp_path):
    printed = run("06_codes_in_another_model.py", "--model", model, "--steps", 2, "--out", "drawn.png")
    assert "10 digits in drawn.png" in printed
    drawn = Image.open(tmp_path / "drawn.png")
    assert drawn.width == 10 * drawn.height


def test_forecast(run, model, tmp_path):
    frame = ["time,load,wind"]
    for hour in range(120):
        value = 20 + 5 * np.sin(hour / 24 * 2 * np.pi)
        frame.append(f"2026-01-{hour // 24 + 1:02}T{hour % 24:02}:00,{value},{value / 2}")
    (tmp_path / "load.csv").write_text("\n".join(frame) + "\n")
    run("05_forecast.py", "load.csv", "--model", model, "--out", "next.csv", "--points", 24, "--past", 96)
    made = TimeSeries.open(tmp_path / "next.csv")
    assert made.columns == tuple(f"{name} {level}%" for name in ("load", "wind") for level in (10, 50, 90))
    assert 1 <= len(made) <= 24
    assert str(made.times[0]).startswith("2026-01-06T00:00")
