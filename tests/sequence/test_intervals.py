import pytest
import torch

from anyany.errors import LayoutError, SpanMismatchError
from anyany.sequence import check_intervals, declared_vs_produced, window


def rows(*ranges) -> torch.Tensor:
    return torch.tensor(ranges, dtype=torch.int32).reshape(-1, 2, 2)


def test_valid_intervals_pass():
    check_intervals(rows([[0, 3], [3, 5]], [[0, 0], [0, 5]], [[4, 4], [2, 5]], [[3, 5], [0, 3]]), 5)
    check_intervals(rows(), 0)


@pytest.mark.parametrize("bad", [[[0, 0], [-1, 2]], [[0, 0], [0, 6]], [[0, 0], [3, 2]], [[7, 7], [0, 1]]])
def test_ranges_stay_inside(bad):
    with pytest.raises(LayoutError, match=r"row 1: every range must satisfy 0 <= lo <= hi <= 5"):
        check_intervals(rows([[0, 0], [0, 1]], bad), 5)


def test_ranges_share_no_key():
    with pytest.raises(LayoutError, match="row 1 share keys"):
        check_intervals(rows([[0, 2], [2, 4]], [[0, 3], [2, 4]]), 5)


def test_shape_and_type():
    with pytest.raises(LayoutError, match=r"expected shape \(T, 2, 2\), got \(4, 2\)"):
        check_intervals(torch.zeros(4, 2, dtype=torch.int32), 5)
    with pytest.raises(LayoutError, match="expected integers"):
        check_intervals(torch.zeros(4, 2, 2), 5)


def seen(intervals: torch.Tensor) -> list[set[int]]:
    return [{k for low, high in row for k in range(low, high)} for row in intervals.tolist()]


@pytest.mark.parametrize("w", [1, 2, 3, 7, 100])
def test_window_keeps_the_last_rows(w):
    causal = rows(*[[[0, 0], [0, i + 1]] for i in range(7)])
    assert seen(window(causal, w)) == [set(range(max(0, i + 1 - w), i + 1)) for i in range(7)]


@pytest.mark.parametrize("w", [1, 2, 4, 6, 9])
def test_window_reaches_into_the_prefix(w):
    """Prefix keys 0..5, own run at keys 10..13: as if they stood in one run."""
    branch = rows(*[[[0, 5], [10, 11 + i]] for i in range(4)])
    keys = [*range(5), *range(10, 14)]
    want = [set(keys[max(0, 6 + i - w) : 6 + i]) for i in range(4)]
    assert seen(window(branch, w, slice(10, 14))) == want
    assert seen(window(branch, w, torch.arange(10, 14))) == want


def test_window_keeps_what_lies_ahead_and_the_input():
    full = rows(*[[[0, 0], [0, 4]]] * 4)
    before = full.clone()
    assert seen(window(full, 2)) == [{0, 1, 2, 3}, {0, 1, 2, 3}, {1, 2, 3}, {2, 3}]
    torch.testing.assert_close(full, before)


def test_window_of_nothing():
    with pytest.raises(LayoutError, match="at least 1 row, got 0"):
        window(rows([[0, 0], [0, 1]]), 0)


def test_declared_and_produced_rows():
    declared_vs_produced("a/b", 0, 7, 7)
    with pytest.raises(SpanMismatchError, match="a/b, part 3: declared 7 rows, produced 9"):
        declared_vs_produced("a/b", 3, 7, 9)
