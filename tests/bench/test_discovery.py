"""The discovery that is timed finds what was written, and in a process that has torch it is an error."""

from __future__ import annotations

import sys

import pytest

from anyany.bench.discovery import EACH, discover, found
from anyany.errors import AnyanyError


def test_a_figure_is_the_share_of_the_time_that_was_granted(monkeypatch):
    monkeypatch.setattr("anyany.bench.discovery.program", lambda name, count: {("discovery", 4): "0.08"}[name, count])
    figure = found(4, 3)
    assert figure.id == "discovery-4"
    assert figure.ratio == pytest.approx(4 * EACH / 0.08)
    assert not figure.reached


def test_a_process_of_its_own_finds_all_of_them():
    figure = found(3, 1)
    assert 0 < figure.ratio < 1000


def test_a_process_that_has_torch_is_refused():
    import torch  # noqa: F401

    path = sys.path[:]
    with pytest.raises(AnyanyError, match="expected 2 plugins and no torch, got 2 and torch"):
        discover(2)
    assert sys.path == path
