from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyany.errors import TruncationError
from anyany.sequence import Layout, PositionScheme, Span, truncate


def text(rows: int) -> Span:
    return Span(component="text", view="text", rows=rows)


def media(inner: int, part: int = 0) -> Span:
    return Span(component="a/b", view="latents", rows=inner + 2, part=part)


def noised(spans: list[Span], of: int) -> Span:
    return replace(spans[of], rows=spans[of].rows - 2, noised=True, of=of)


def test_what_fits_stays_whole():
    report = truncate([text(3), media(2)], 7, "drop-span")
    assert report.whole
    assert (report.keep, report.dropped, report.rows) == ((0, 1), (), 7)


def test_error_names_both_numbers():
    with pytest.raises(TruncationError, match="document: 7 rows, the limit is 6"):
        truncate([text(3), media(2)], 6)


def test_the_earliest_media_go_first():
    spans = [text(3), media(2), text(1), media(3), text(2)]
    report = truncate(spans, 12, "drop-span")
    assert (report.keep, report.dropped, report.rows) == ((0, 2, 3, 4), (1,), 11)


def test_noised_copies_go_with_their_span_and_the_rest_still_points_right():
    spans = [text(1), media(2, 0), media(3, 1)]
    spans += [noised(spans, 1), noised(spans, 2)]
    report = truncate(spans, 10, "drop-span")
    assert (report.keep, report.dropped, report.rows) == ((0, 2, 4), (1, 3), 9)
    kept = report.take(spans)
    assert [span.part for span in kept] == [-1, 1, 1]
    assert kept[2].of == 1
    assert Layout.pack([kept], PositionScheme()).rows == report.rows


@pytest.mark.parametrize("policy", ["drop-span", "drop-sample"])
def test_text_is_never_cut(policy):
    report = truncate([text(5), media(2), text(6)], 10, policy)
    assert (report.keep, report.dropped, report.rows) == ((), (0, 1, 2), 0)
    assert report.take([text(5), media(2), text(6)]) == ()


def test_drop_sample_drops_all():
    assert truncate([text(3), media(2)], 6, "drop-sample").keep == ()


def test_unknown_policy():
    with pytest.raises(TruncationError, match="got 'cut'"):
        truncate([text(1)], 5, "cut")


SPANS = st.one_of(st.builds(text, st.integers(1, 4)), st.builds(media, st.integers(0, 5)))


@given(st.lists(SPANS, max_size=8), st.integers(0, 40), st.sampled_from(["drop-span", "drop-sample"]), st.data())
def test_no_span_is_split_and_everything_is_accounted_for(spans, limit, policy, data):
    spans = spans + [noised(spans, i) for i, s in enumerate(spans) if s.view == "latents" and data.draw(st.booleans())]
    report = truncate(spans, limit, policy)
    assert report.rows <= limit
    assert sorted(report.keep + report.dropped) == list(range(len(spans)))
    assert list(report.keep) == sorted(report.keep)
    kept = report.take(spans)
    assert [(s.component, s.rows, s.part) for s in kept] == [
        (spans[i].component, spans[i].rows, spans[i].part) for i in report.keep
    ]
    assert Layout.pack([kept], PositionScheme()).rows == report.rows
    if sum(span.rows for span in spans) <= limit:
        assert report.whole
