"""Lines that a machine cannot measure are told of and cost no other; what differs is an error in any case."""

from __future__ import annotations

import json

import pytest

from anyany.bench import suite
from anyany.bench.measure import Figure
from anyany.cli.main import main
from anyany.errors import AnyanyError, DataError


def figure(name):
    return lambda rounds: Figure(id=name, what="", quartiles=(1.0, 2.0, float(rounds)), peer="")


def fails(error):
    def run(rounds):
        raise error

    return run


@pytest.fixture
def lines(monkeypatch):
    found = {"first": figure("first"), "bare": fails(DataError("no captions here")), "last": figure("last")}
    monkeypatch.setattr(suite, "SUITE", found)
    return found


def test_what_cannot_be_measured_is_left_out_and_said(lines, capsys):
    assert main(["bench", "--json", "--quick"]) == 0
    out, err = capsys.readouterr()
    assert [(line["id"], line["quartiles"][2]) for line in json.loads(out)] == [("first", 3), ("last", 3)]
    assert "bare: left out: no captions here" in err


def test_what_was_asked_for_must_be_measured(lines, capsys):
    assert main(["bench", "--only", "first", "bare"]) == 1
    assert "no captions here" in capsys.readouterr().err
    with pytest.raises(DataError, match="no captions"):
        list(suite.measure())


def test_sides_that_differ_are_an_error_in_any_case(lines, capsys):
    lines["bare"] = fails(AnyanyError("the replies differ"))
    assert main(["bench"]) == 1
    assert "the replies differ" in capsys.readouterr().err
