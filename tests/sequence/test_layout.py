import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anyany.errors import LayoutError
from anyany.plugin.components import Coordinates
from anyany.sequence import Layout, PositionScheme, Span, check_intervals

INDEX = PositionScheme()


def text(rows: int) -> Span:
    return Span(component="text", view="text", rows=rows)


def media(inner: int, look: str = "causal", view: str = "features", marked: bool = True) -> Span:
    values = np.tile(np.arange(inner, dtype=np.float32)[:, None], 3) // 2 if marked else None
    coordinates = Coordinates(values=values) if values is not None else None
    return Span(component="a/b", view=view, rows=inner + 2, coordinates=coordinates, look=look)


def noised(spans: list[Span], of: int) -> Span:
    return replace(spans[of], rows=spans[of].rows - 2, noised=True, of=of, look="full")


def seen(layout: Layout) -> list[set[int]]:
    return [{k for low, high in row for k in range(low, high)} for row in layout.intervals.tolist()]


def test_text_is_causal():
    assert seen(Layout.pack([[text(2), text(2)]], INDEX)) == [set(range(i + 1)) for i in range(4)]


def test_inner_rows_of_a_full_span_see_each_other_and_marks_do_not():
    got = seen(Layout.pack([[text(1), media(3, "full"), text(1)]], INDEX))
    begin, end = 1, 5
    assert got[begin] == {0, 1}
    assert got[2] == got[3] == got[4] == {0, 1, 2, 3, 4}
    assert got[end] == {0, 1, 2, 3, 4, 5}
    assert got[6] == set(range(7))


def test_documents_do_not_see_each_other():
    layout = Layout.pack([[text(3)], [], [media(1)]], INDEX)
    assert layout.documents.tolist() == [0, 3, 3, 6]
    assert seen(layout)[3:] == [{3}, {3, 4}, {3, 4, 5}]
    assert layout.coordinates[:, 0].tolist() == [0, 1, 2, 0, 1, 2]


def test_noised_rows_see_what_their_clean_span_saw_and_themselves():
    clean = [text(2), media(2, "full", "latents"), text(1), media(3, "full", "latents"), text(1)]
    layout = Layout.pack([[text(4)], [*clean, noised(clean, 1), noised(clean, 3)]], PositionScheme("grid"))
    got, first = seen(layout), 4
    one, two = range(first + 13, first + 15), range(first + 15, first + 18)
    assert layout.rows == two.stop
    for row in one:
        assert got[row] == {4, 5, 6} | set(one)  # two of text and the begin mark
    for row in two:
        assert got[row] == set(range(4, 4 + 2 + 4 + 1 + 1)) | set(two)
    for row in range(one.start):
        assert not got[row] & {*one, *two}
    torch.testing.assert_close(layout.coordinates[one.start : one.stop], layout.coordinates[7:9])
    torch.testing.assert_close(layout.coordinates[two.start :], layout.coordinates[12:15])


def test_noised_copies_leave_clean_rows_as_they_were():
    clean = [text(2), media(2, "full", "latents")]
    alone = Layout.pack([clean], INDEX)
    both = Layout.pack([[*clean, noised(clean, 1)]], INDEX)
    torch.testing.assert_close(both.intervals[:6], alone.intervals)
    torch.testing.assert_close(both.coordinates[:6], alone.coordinates)


@pytest.mark.parametrize("of", [-1, 2, 5])
def test_a_noised_span_copies_an_earlier_clean_one(of):
    clean = [text(2), media(2, "full", "latents")]
    with pytest.raises(LayoutError, match="must copy an earlier clean span"):
        Layout.pack([[*clean, replace(noised(clean, 1), of=of)]], INDEX)


def test_a_noised_span_is_as_long_as_the_clean_one():
    clean = [text(2), media(2, "full", "latents")]
    bad = replace(noised(clean, 1), rows=3, coordinates=None)
    with pytest.raises(LayoutError, match="noised copy has 3 rows, its clean span 2"):
        Layout.pack([[*clean, bad]], INDEX)


def test_no_clean_span_stands_behind_a_noised_one():
    clean = [text(2), media(2, "full", "latents")]
    with pytest.raises(LayoutError, match="behind a noised span"):
        Layout.pack([[*clean, noised(clean, 1), text(1)]], INDEX)


def test_nothing_at_all():
    for documents in ([], [[]]):
        layout = Layout.pack(documents, INDEX)
        assert layout.rows == 0
        assert layout.intervals.shape == (0, 2, 2)
        assert layout.coordinates.shape == (0, 3)


SPANS = st.one_of(
    st.builds(text, st.integers(1, 4)),
    st.builds(
        media, st.integers(0, 4), st.sampled_from(["causal", "full"]), st.sampled_from(["features", "latents"]),
        st.booleans(),
    ),
)  # fmt: skip


@st.composite
def documents(draw):
    spans = draw(st.lists(SPANS, max_size=5))
    copied = [i for i, s in enumerate(spans) if s.view == "latents" and draw(st.booleans())]
    return [*spans, *(noised(spans, i) for i in copied)]


DOCUMENTS = st.lists(documents(), max_size=4)
SCHEMES = st.sampled_from([PositionScheme(k) for k in ("index", "span", "grid", "time")])


@given(DOCUMENTS, SCHEMES)
def test_order_is_kept_and_no_span_is_split(documents, scheme):
    layout = Layout.pack(documents, scheme)
    assert [p.span for p in layout.spans] == [span for spans in documents for span in spans]
    row = 0
    for placed in layout.spans:
        assert placed.start == row
        assert documents[placed.document][placed.index] is placed.span
        row += placed.span.rows
    assert row == layout.rows == len(layout.intervals) == len(layout.coordinates)


@given(DOCUMENTS, SCHEMES)
def test_packed_equals_alone_shifted(documents, scheme):
    packed = Layout.pack(documents, scheme)
    for number, spans in enumerate(documents):
        first, end = packed.documents[number : number + 2].tolist()
        alone = Layout.pack([spans], scheme)
        torch.testing.assert_close(packed.coordinates[first:end], alone.coordinates)
        assert seen(packed)[first:end] == [{k + first for k in keys} for keys in seen(alone)]


@given(DOCUMENTS, SCHEMES)
def test_every_row_sees_itself_and_only_its_document(documents, scheme):
    layout = Layout.pack(documents, scheme)
    check_intervals(layout.intervals, layout.rows)
    bounds = layout.documents.tolist()
    for first, end in pairwise(bounds):
        for row, keys in enumerate(seen(layout)[first:end], first):
            assert row in keys
            assert keys <= set(range(first, end))


@given(documents(), SCHEMES)
@settings(max_examples=50)
def test_no_clean_row_sees_a_later_span(spans, scheme):
    layout = Layout.pack([spans], scheme)
    for placed in layout.spans:
        end = placed.start + placed.span.rows
        assert all(max(keys) < end for keys in seen(layout)[placed.start : end])


def test_ten_thousand_parts():
    """Linear in spans: what 10,000 parts cost is what 1,000 cost, ten times (no time is asserted)."""
    spans = [media(4, "full") for _ in range(10_000)]
    layout = Layout.pack([spans], PositionScheme("grid"))
    assert layout.rows == 60_000
    assert layout.intervals[-1, 1].tolist() == [0, 60_000]


def test_nothing_grows_with_the_square_of_the_rows():
    rows = 32_768
    spans = [*[media(254, "full", "latents", marked=False) for _ in range(64)], text(rows // 4)]
    spans += [noised(spans, i) for i in range(32)]
    documents = [spans, [text(rows - sum(span.rows for span in spans))]]
    tracemalloc.start()
    layout = Layout.pack(documents, INDEX)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert layout.rows == rows
    assert layout.intervals.nbytes == 16 * rows
    assert layout.coordinates.nbytes == 12 * rows
    assert peak < 100 * rows  # a mask of one bit per pair would be 4096 bytes a row
