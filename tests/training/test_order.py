"""The order of samples: permutations without state, the same everywhere, unlike each other."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyany.errors import RecipeError
from anyany.training import order

words = st.integers(0, 2**63)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 400), words, st.integers(0, 1000))
def test_every_epoch_holds_each_item_once(size, seed, epoch):
    assert sorted(order.permutation(size, seed, epoch)) == list(range(size))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000])
def test_sizes_around_powers_of_two(size):
    assert sorted(order.permutation(size, 7, 3)) == list(range(size))


def test_items_run_through_epochs():
    size, seed = 13, 5
    stream = [order.item(i, size, seed) for i in range(3 * size)]
    for epoch in range(3):
        assert stream[epoch * size : (epoch + 1) * size] == order.permutation(size, seed, epoch).tolist()
    assert stream[:size] != stream[size : 2 * size]


def test_a_late_item_needs_nothing_before_it():
    assert 0 <= order.item(10**15 + 3, 10**9, 1) < 10**9


def test_seeds_and_epochs_give_unlike_orders():
    """Two random orders of n items share one place on average; these share few."""
    base = order.permutation(500, 0, 0)
    others = [order.permutation(500, seed, epoch) for seed, epoch in ((1, 0), (0, 1), (2**40, 0), (0, 9))]
    shared = [(base == other).sum() for other in others]
    assert max(shared) < 8
    neighbours = np.abs(np.diff(base)) == 1
    assert neighbours.sum() < 10


def test_places_are_uniform():
    """Item 0 stands everywhere: over 4000 orders of 8, each place is its own about 500 times."""
    places = [order.permutation(8, seed, 0).tolist().index(0) for seed in range(4000)]
    counts = np.bincount(places, minlength=8)
    assert (np.abs(counts - 500) < 110).all()  # five standard deviations


@settings(max_examples=100, deadline=None)
@given(st.lists(words, min_size=1, max_size=4))
def test_numbers_depend_on_their_words_alone(numbers):
    first = order.generator(*numbers).random(4)
    np.random.default_rng(0).random(100)
    assert (order.generator(*numbers).random(4) == first).all()
    assert 0 <= order.uniform(*numbers) < 1
    assert 0 <= order.mix(*numbers) < 2**64
    assert order.mix(*numbers) != order.mix(*numbers, 0)


def test_uniform_numbers_are_uniform():
    numbers = np.array([order.uniform(3, i) for i in range(5000)])
    assert abs(numbers.mean() - 0.5) < 0.02
    assert abs(numbers.var() - 1 / 12) < 0.01
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.06


def test_the_global_generators_are_neither_used_nor_changed():
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    first = (order.permutation(50, 1, 1).tolist(), order.choose([1, 2], 3, 4))
    assert (np.random.get_state()[1] == state).all()
    np.random.seed(2)
    assert (order.permutation(50, 1, 1).tolist(), order.choose([1, 2], 3, 4)) == first


def test_another_process_with_another_hash_seed_counts_the_same():
    code = (
        "from anyany.training import order; print(order.mix(1, 2, 3), order.permutation(9, 4, 2).tolist(),"
        "[order.choose({'b': 1.0, 'a': 3.0}, 5, i) for i in range(9)], order.generator(1, 2).integers(0, 99, 3))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "77")
    }
    assert len(said) == 1


def test_a_mixture_follows_its_weights():
    weights = {"a": 1.0, "b": 3.0, "c": 0.0, "d": 4.0}
    counts = np.bincount([order.choose(weights, 11, step) for step in range(8000)], minlength=4) / 8000
    np.testing.assert_allclose(counts, [0.125, 0.375, 0.0, 0.5], atol=0.02)
    assert counts[2] == 0


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [-1.0, 2.0], [float("nan")], [float("inf"), 1.0], {}])
def test_bad_weights(weights):
    with pytest.raises(RecipeError, match="mixture"):
        order.choose(weights, 0, 0)


@pytest.mark.parametrize(("index", "size"), [(5, 5), (-1, 5), (0, 0)])
def test_places_outside(index, size):
    with pytest.raises(RecipeError, match="order"):
        order.permuted(index, size, 0, 0)
