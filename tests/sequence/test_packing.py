import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyany.errors import TruncationError
from anyany.sequence import fill, pack


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(50, 200))
def test_each_document_is_in_one_bin_that_holds_it(lengths, budget):
    bins = pack(lengths, budget)
    assert sorted(i for members in bins for i in members) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in members) <= budget for members in bins)
    assert all(members == sorted(members) for members in bins)
    assert pack(lengths, budget) == bins


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_no_two_bins_fit_into_one(lengths):
    loads = sorted(sum(lengths[i] for i in members) for members in pack(lengths, 50))
    assert len(loads) < 2 or loads[0] + loads[1] > 50


MIXTURES = {
    "log-normal": lambda rng: rng.lognormal(5.5, 1.2, 4000),
    "pareto": lambda rng: 20 * (1 + rng.pareto(1.2, 4000)),
    "captions and films": lambda rng: np.concatenate([rng.uniform(40, 120, 3000), rng.uniform(900, 3500, 400)]),
    "exponential": lambda rng: rng.exponential(400, 3000),
}


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("budget", [4096, 16384])
def test_long_tailed_mixtures_fill_their_bins(name, budget):
    lengths = np.clip(MIXTURES[name](np.random.default_rng(0)), 8, budget).astype(int).tolist()
    assert fill(lengths, pack(lengths, budget), budget) >= 0.95


def test_nothing_to_pack():
    assert pack([], 10) == []
    assert fill([], [], 10) == 0


@pytest.mark.parametrize("length", [11, -1])
def test_what_no_bin_holds_is_named(length):
    with pytest.raises(TruncationError, match=f"document 1: {length} rows, a bin holds 10"):
        pack([3, length], 10)
