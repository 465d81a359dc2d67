"""Coordinates against the rules that Qwen2-VL and Qwen2.5-Omni publish, written out here on their own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyany.errors import LayoutError
from anyany.plugin.components import Coordinates
from anyany.sequence import Layout, PositionScheme, Span, place

GRID, TIME = PositionScheme("grid"), PositionScheme("time")


def grid(t: int, h: int, w: int, seconds: float | None = None) -> Coordinates:
    values = np.stack(np.meshgrid(range(t), range(h), range(w), indexing="ij"), -1).reshape(-1, 3)
    values = values.astype(np.float32)
    if seconds is not None:
        values[:, 0] *= np.float32(seconds)
    return Coordinates(values=values, unit="grid" if seconds is None else "seconds")


def text(rows: int) -> Span:
    return Span(component="text", view="text", rows=rows)


def media(coordinates: Coordinates | None, rows: int | None = None) -> Span:
    rows = len(coordinates.values) if rows is None else rows
    return Span(component="a/b", view="features", rows=rows + 2, coordinates=coordinates)


def published(segments, per_second=25):
    """The loop of ``get_rope_index``: each segment starts one behind the largest id so far."""
    out: list[np.ndarray] = []
    for kind, *size in segments:
        start = out[-1].max() + 1 if out else 0
        if kind == "text":
            out.append(np.repeat(np.arange(size[0])[:, None], 3, 1) + start)
        else:
            t, h, w, seconds = size
            times = np.arange(t) if seconds is None else (np.arange(t) * seconds * per_second).astype(int)
            cells = [(i, j, k) for i in times for j in range(h) for k in range(w)]
            out.append(np.array(cells) + start)
    return np.concatenate(out)


def coordinates(spans, scheme):
    return Layout.pack([spans], scheme).coordinates.numpy()


@pytest.mark.parametrize("size", [(1, 3, 2), (1, 1, 7), (3, 2, 2), (6, 2, 3)])
def test_grid_is_the_qwen2_vl_rule(size):
    got = coordinates([text(4), media(grid(*size)), text(3)], GRID)
    want = published([("text", 5), ("grid", *size, None), ("text", 4)])  # a mark on each side is a token
    np.testing.assert_array_equal(got, want)


def test_the_figure_of_qwen2_vl():
    """Three frames of two by two and then text: the text goes on at 3 in the figure of arXiv 2409.12191."""
    got = coordinates([media(grid(3, 2, 2)), text(1)], GRID)
    np.testing.assert_array_equal(got[[1, 4, 5, 12]] - 1, [[0, 0, 0], [0, 1, 1], [1, 0, 0], [2, 1, 1]])
    np.testing.assert_array_equal(got[13] - 1, [3, 3, 3])


@pytest.mark.parametrize("seconds", [0.04, 0.5, 1.0, 1 / 3])
def test_time_is_the_qwen2_5_omni_rule(seconds):
    got = coordinates([text(2), media(grid(5, 2, 3, seconds)), text(2)], TIME)
    want = published([("text", 3), ("time", 5, 2, 3, seconds), ("text", 3)])
    np.testing.assert_array_equal(got, want)


def test_forty_milliseconds_are_one_position():
    rows = 60_000  # forty minutes of sound at 25 rows per second
    values = np.zeros((rows, 3), np.float32)
    values[:, 0] = np.arange(rows) / np.float32(25)
    placed, after = place(media(Coordinates(values=values, unit="seconds")), 0, TIME)
    np.testing.assert_array_equal(placed[1:-1, 0], np.arange(rows) + 1)
    assert after == rows + 2


def test_a_grid_counts_moments_instead_of_seconds():
    np.testing.assert_array_equal(place(media(grid(4, 2, 1, 0.7)), 3, GRID)[0], place(media(grid(4, 2, 1)), 3, GRID)[0])


def test_index_ignores_what_is_declared():
    got, after = place(media(grid(2, 2, 2)), 10, PositionScheme("index"))
    np.testing.assert_array_equal(got, np.repeat(np.arange(10.0, 20.0)[:, None], 3, 1))
    assert after == 20


def test_span_shares_one_position():
    got, after = place(media(grid(2, 2, 2)), 10, PositionScheme("span"))
    np.testing.assert_array_equal(got[:, 0], [10, *[11] * 8, 12])
    assert after == 13


def test_text_and_undeclared_media_count_rows_in_every_scheme():
    for kind in ("index", "grid", "time"):
        for span in (text(5), media(None, rows=3)):
            got, after = place(span, 2, PositionScheme(kind))
            np.testing.assert_array_equal(got, np.repeat(np.arange(2.0, 7.0)[:, None], 3, 1))
            assert after == 7


@pytest.mark.parametrize("kind", ["index", "span", "grid", "time"])
def test_an_empty_span_has_its_marks(kind):
    got, after = place(media(None, rows=0), 4, PositionScheme(kind))
    np.testing.assert_array_equal(got, [[4] * 3, [5] * 3])
    assert after == 6


SPANS = st.one_of(
    st.builds(text, st.integers(1, 5)),
    st.builds(media, st.builds(grid, *[st.integers(1, 3)] * 3, st.none() | st.sampled_from([0.04, 0.5, 2]))),
)


@given(st.lists(SPANS, max_size=6), st.sampled_from(["index", "span", "grid", "time"]))
def test_span_by_span_equals_the_whole_layout(spans, kind):
    scheme, base, rows = PositionScheme(kind), 0.0, [np.empty((0, 3), np.float32)]
    for span in spans:
        placed, base = place(span, base, scheme)
        assert placed.dtype == np.float32
        assert base == placed.max() + 1
        rows.append(placed)
    np.testing.assert_array_equal(np.concatenate(rows), coordinates(spans, scheme))


def test_wrong_shape_names_both():
    span = Span(component="a/b", view="features", rows=9, part=4, coordinates=grid(1, 2, 2))
    with pytest.raises(LayoutError, match=r"a/b, part 4: expected coordinates \(7, 3\), got \(4, 3\)"):
        place(span, 0, GRID)


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_coordinates_must_be_finite_and_not_negative(bad):
    values = np.full((2, 3), bad, np.float32)
    with pytest.raises(LayoutError, match="finite and not negative"):
        place(media(Coordinates(values=values)), 0, GRID)


def test_a_media_span_has_room_for_its_marks():
    with pytest.raises(LayoutError, match="1 rows cannot hold 2 marks"):
        Span(component="a/b", view="features", rows=1)
    with pytest.raises(LayoutError, match="text, part -1: -1 rows"):
        text(-1)


def test_unknown_scheme():
    with pytest.raises(LayoutError, match="'spiral'"):
        PositionScheme("spiral")
    with pytest.raises(LayoutError, match="per_second"):
        PositionScheme("time", per_second=0)
