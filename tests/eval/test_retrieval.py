"""Retrieval: by hand, against a loop, and where nothing can be found."""

from __future__ import annotations

import numpy as np
import pytest

from anyany.errors import RequestError
from anyany.eval.retrieval import r_precision, recall_at


def slow(k, similar, right):
    hits = 0
    for row, own in zip(similar, right, strict=True):
        better = [i for i in range(len(row)) if i != own and row[i] >= row[own]]
        hits += len(better) < k
    return hits / len(right)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_recall_is_that_of_a_loop(k):
    draw = np.random.default_rng(k)
    similar, right = draw.integers(0, 4, (23, 7)).astype(float), draw.integers(0, 7, 23)  # with many ties
    assert recall_at(k, similar, right) == pytest.approx(slow(k, similar, right))


def test_recall_by_hand():
    similar = np.array([[0.9, 0.1, 0.5], [0.8, 0.7, 0.6], [0.1, 0.2, 0.1]])
    assert recall_at(1, similar, [0, 1, 2]) == pytest.approx(1 / 3)
    assert recall_at(2, similar, [0, 1, 2]) == pytest.approx(2 / 3)  # the third ties with another, behind the second
    assert recall_at(3, similar, [0, 1, 2]) == 1.0


def test_vectors_that_are_all_alike_find_nothing():
    assert recall_at(1, np.ones((5, 5)), np.arange(5)) == 0.0


@pytest.mark.parametrize(
    ("k", "similar"), [(0, np.ones((2, 3))), (4, np.ones((2, 3))), (1, np.ones((0, 3))), (1, np.full((2, 3), np.nan))]
)
def test_what_cannot_be_counted_is_an_error(k, similar):
    with pytest.raises(RequestError, match="retrieval: expected"):
        recall_at(k, similar, np.zeros(len(similar), int))


def test_r_precision():
    draw = np.random.default_rng(0)
    made = draw.normal(size=(70, 5))
    assert r_precision(1, made, made) == 1.0  # two pools of 32, six are left over
    strangers = [r_precision(3, draw.normal(size=(640, 5)), draw.normal(size=(640, 5)), seed=s) for s in range(4)]
    assert np.mean(strangers) == pytest.approx(3 / 32, abs=0.03)
    with pytest.raises(RequestError, match="expected at least 32 pairs, got 31"):
        r_precision(1, made[:31], made[:31])


def test_r_precision_by_hand():
    """Pairs on a line: 10 lies between 1 and 19, and the tie is a miss; 20 is nearer to 19 than to 21.5."""
    left = np.array([[0.0], [10.0], [20.0], [30.0]])
    right = np.array([[1.0], [19.0], [21.5], [29.0]])
    assert r_precision(1, left, right, pool=4) == 0.5
    assert r_precision(2, left, right, pool=4) == 1.0
