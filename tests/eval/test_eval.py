"""Scores, judges and tasks: they count right, and judge by what they were given."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anyany.cli.main import main
from anyany.errors import DataError
from anyany.eval import judges, tasks_choices
from anyany.eval.judged import SpokenDigit
from anyany.eval.scores import accuracy, share
from anyany.eval.standard import TASKS
from anyany.mini import files
from anyany.mini.words import NUMBERS
from anyany.parts import Image

needs = pytest.mark.skipif(
    not all(files.available(name) for name in ("mnist", "fsdd", "ett", "kaykit", "truce")),
    reason="the data sets are not installed; point ANYANY_DATA to them",
)


def test_shares():
    assert share([]) == 0.0
    assert accuracy([True, False, False], baseline="b", judge="j") == {
        "metric": "accuracy", "value": 0.3333, "n": 3, "baseline": "b", "judge": "j"
    }  # fmt: skip


@needs
def test_requests_of_every_kind_and_what_they_ask_for():
    cases = tasks_choices.requests(24)
    assert len({expected for _, expected in cases}) == 10
    assert [e for _, e in cases[:12]] == [e for _, e in cases[12:]]
    assert cases[8][0] != cases[20][0]  # other digits the second time


@needs
@pytest.mark.slow
def test_the_judge_of_pictures_knows_real_ones_and_no_noise():
    judge, words = judges.judge("drawn")
    images, labels = files.mnist("t10k")
    seen = judge.digits(judges.drawn([Image.from_array(i) for i in images[:500]]))
    assert share([a == b for a, b in zip(seen, labels[:500].tolist(), strict=True)]) > 0.97
    noise = np.random.default_rng(0).integers(0, 256, (200, 28, 28), np.uint8)
    guessed = judge.digits(judges.drawn([Image.from_array(i) for i in noise]))
    assert share([a == b for a, b in zip(guessed, labels[:200].tolist(), strict=True)]) < 0.3
    assert "real test data" in words


@needs
@pytest.mark.slow
def test_every_task_runs_and_prints_its_figures(capsys):
    """On two items each: what mini can do is no matter of tests, that it is measured is."""
    assert main(["eval", "mini", "--limit", "2", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert list(scores) == [spec.id for spec in TASKS]
    for name, score in scores.items():
        assert {"metric", "value", "n", "baseline", "judge", "seconds", "seed", "model", "versions"} <= set(score), name
        assert score["failures"] == [], name
        assert np.isfinite(score["value"]), name
        assert score["n"] >= 1, name


@needs
@pytest.mark.slow
def test_the_judge_of_speech_as_a_metric():
    metric = SpokenDigit()
    records = [r for r in files.spoken() if r.index == 0][:30]
    right = [metric.measure(r.audio, [NUMBERS[r.digit]], ()) for r in records]
    wrong = [metric.measure(r.audio, [NUMBERS[(r.digit + 1) % 10]], ()) for r in records]
    assert metric.total(right) > 0.9
    assert metric.total(wrong) < 0.1
    with pytest.raises(DataError, match="expected the word of a digit such as 'four', got 'eleven'"):
        metric.measure(records[0].audio, ["eleven"], ())
