"""Documents dealt out to the batches of a group."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyany.errors import DataError
from anyany.training.data import Stream
from anyany.training.packing import GROUP, Batches, counted, dealt, packed

ROWS = 40


@dataclass(frozen=True)
class Item:
    """Stands for a document: it says where it is from, and has rows."""

    source: str
    number: tuple[int, int]
    rows: int


class Sizes:
    """Samples of given rows; 0 stands for one that is broken."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def sample(self, index: int, draw: np.random.Generator) -> tuple[int, int, int]:
        if not self.sizes[index]:
            raise DataError("broken")
        return index, int(draw.integers(1 << 30)), self.sizes[index]


def make(source: str, sample: tuple[int, int, int]) -> Item:
    return Item(source, sample[:2], sample[2])


def stream(a: list[int], b: list[int], seed: int) -> Stream[Item]:
    sources = {"a": Sizes(a), "b": Sizes(b)}
    return Stream(sources, {"a": 2.0, "b": 1.0}, seed, make, lambda *report: None)


def batches(*of, group: str = "packed") -> Batches[Item]:
    if group == "packed":
        return Batches(stream(*of), partial(packed, rows=ROWS), GROUP)
    return Batches(stream(*of), partial(counted, count=5), 1)


sizes = st.lists(st.integers(0, ROWS), min_size=1, max_size=9).map(lambda found: [*found, 7])


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(0, 99), st.integers(1, 40))
def test_nothing_is_lost_or_twice_and_no_batch_is_too_full(a, b, seed, count):
    feed = batches(a, b, seed)
    given_out = [feed.take() for _ in range(GROUP * -(-count // GROUP))]
    assert all(batch and sum(item.rows for item in batch) <= ROWS for batch in given_out)
    plain = stream(a, b, seed)
    found = [item for batch in given_out for item in batch]
    expected = [plain.take() for _ in found]
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert feed.state() == {"taken": plain.taken, "given": 0}
    place = {id(item): n for n, item in enumerate(found)}
    for batch in given_out:  # in the order of the stream
        assert [expected.index(item) for item in batch] == sorted(expected.index(item) for item in batch)
    assert len(place) == len(found)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(0, 99), st.integers(0, 40), st.sampled_from(["packed", "counted"]))
def test_it_goes_on_exactly_from_any_batch(a, b, seed, count, group):
    whole = batches(a, b, seed, group=group)
    for _ in range(count):
        whole.take()
    state = whole.state()
    again = batches(a, b, seed, group=group)
    again.take()  # what it has done before does not matter
    again.restore(state)
    assert again.state() == state
    for _ in range(GROUP + 3):
        assert again.take() == whole.take()
        assert again.state() == whole.state()


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 8))
def test_the_longest_go_first_each_to_the_emptiest(lengths, count):
    places = dealt(lengths, 60, count)
    used = [0] * count
    fits = True
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        emptiest = used.index(min(used))
        used[emptiest] += lengths[index]
        fits = fits and used[emptiest] <= 60
        assert not fits or places is None or places[index] == emptiest
    assert (places is not None) == fits


def test_batches_are_alike_and_full():
    """Long and short documents are in every batch; a group wastes little."""
    draw = np.random.default_rng(0)
    lengths = [*draw.integers(1, 9, 70).tolist(), *[17] * 30]
    feed = batches(lengths, lengths, 0)
    given_out = [feed.take() for _ in range(GROUP * 5)]
    assert np.mean([sum(item.rows for item in batch) for batch in given_out]) >= 0.95 * ROWS
    assert all(any(item.rows == 17 for item in batch) for batch in given_out)
    assert all(any(item.rows < 9 for item in batch) for batch in given_out)


def test_documents_as_long_as_a_batch():
    feed = batches([ROWS], [ROWS], 0)
    assert [[item.rows for item in feed.take()] for _ in range(GROUP + 1)] == [[ROWS]] * (GROUP + 1)


def test_only_broken_samples_are_an_error():
    with pytest.raises(DataError, match="the last 1000 samples cannot be used"):
        batches([0], [0], 0).take()
