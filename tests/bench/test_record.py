"""What was measured lies in a file that names its date, device and commit, beside a picture of it."""

from __future__ import annotations

import builtins
import json
import os

import pytest

from anyany.bench import growth, record, suite
from anyany.bench.growth import Growth
from anyany.bench.measure import Figure
from anyany.cli.main import main
from anyany.errors import MissingPackageError, RequestError

FIGURES = [
    Figure(id="reached", what="", quartiles=(1.9, 2.0, 2.2), peer="peer", goal=1.5),
    Figure(id="missed", what="", quartiles=(0.5, 0.6, 0.7), peer="peer", goal=0.8),
    Figure(id="machine", what="", quartiles=(20.0, 21.0, 22.0), peer="none", unit="GB/s"),
]
LAW = Growth(id="law", what="", points=((1.0, 0.1), (2.0, 0.2), (4.0, 0.4)), slope=1.0, law=(0.9, 1.1))


def test_figures_come_back_with_what_they_were_measured_on(tmp_path):
    data, picture = record.write(tmp_path / "new" / "folder", FIGURES, rounds=3)
    told = json.loads(data.read_text())
    assert [each["id"] for each in told["figures"]] == ["reached", "missed", "machine"]
    assert told["figures"][0]["ratio"] == 2.0
    assert told["rounds"] == 3
    assert told["versions"]["torch"].startswith("2.")
    assert data.name.startswith(told["date"])
    assert data.stem == picture.stem
    drawn = picture.read_text()
    assert drawn.startswith("<?xml")
    assert "reached" in drawn
    assert "2 of 1.5" in drawn
    assert "machine" not in drawn  # it has no goal


def test_laws_have_files_of_their_own(tmp_path):
    record.write(tmp_path, FIGURES, rounds=3)
    data, picture = record.write(tmp_path, [LAW], rounds=3)
    assert data.stem.endswith("-growth")
    assert json.loads(data.read_text())["figures"][0]["held"] is True
    assert "slope 1" in picture.read_text()
    assert len(list(tmp_path.iterdir())) == 4


def test_the_command_writes_both(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite, "SUITE", {each.id: lambda rounds, each=each: each for each in FIGURES})
    monkeypatch.setattr(growth, "grow", lambda rounds: iter([LAW]))
    assert main(["bench", "--quick", "--json", "--out", str(tmp_path)]) == 0
    assert main(["bench", "--growth", "--json", "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*.json"))) == len(list(tmp_path.glob("*.svg"))) == 2
    assert json.loads(next(tmp_path.glob("*-growth.json")).read_text())["rounds"] == suite.ROUNDS


def test_nothing_measured_is_an_error(tmp_path):
    with pytest.raises(RequestError, match="nothing was measured"):
        record.write(tmp_path, [], rounds=3)


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(RequestError, match="cannot write to"):
        record.write(tmp_path / "taken", FIGURES, rounds=3)


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    plain = builtins.__import__

    def bare(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", bare)
    with pytest.raises(MissingPackageError, match="pip install"):
        record.write(tmp_path, FIGURES, rounds=3)
    assert not os.listdir(tmp_path)
