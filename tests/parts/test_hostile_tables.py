"""Tables that would be misread, and tables that swell."""

from __future__ import annotations

import io
from decimal import Decimal

import numpy as np
import pytest
from hostile import needs_proc, peak, refused

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaError, MediaTooLargeError
from anyany.media import table as table_files
from anyany.media.limits import Limits
from anyany.parts import TimeSeries

pytest.importorskip("pandas")


def parquet(**columns: object) -> bytes:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a,b\n1,2,3\n4,5,6\n", MediaDecodeError), ("t;a\n2020-03-29;1,5;2\n", MediaDecodeError),
        ("a,b\n1\n1,2,3\n", MediaDecodeError), ("a,b\n1,\x002\n", MediaDecodeError), ("a,b\n", EmptyMediaError),
        ("a\n" + "9" * 400 + "\n", MediaDecodeError), ("a\n1+2j\n", MediaDecodeError),
        ('a\n"1\n' * 9, MediaDecodeError),
        ("t,a\n2020-01-02,1\n2020-01-01,2\n", MediaError), ("t,a\n2020-01-01,1\n2020-01-01,2\n", MediaError),
        ("t,a\n2020-01-01,1\n,2\n", MediaError),
        ("t,a\n2020-03-29 01:00+01:00,1\n2020-03-29 03:00+02:00,2\n", MediaError),
        ("a\n" + "1\n" * 1_000_001, MediaTooLargeError), (",".join(f"c{i}" for i in range(5000)) + "\n", MediaError),
    ],
    ids=lambda x: x[:20] if isinstance(x, str) else x.__name__,
)  # fmt: skip
def test_tables_that_would_be_misread(text, error):
    refused(TimeSeries, text.encode(), error)


def test_gaps_and_extremes_of_a_table_are_kept():
    values = TimeSeries.from_bytes(b"a,b,c\n1,,1e308\n,,-1e308\n3,,5\n").values
    np.testing.assert_array_equal(values, [[1, np.nan, 1e308], [np.nan, np.nan, -1e308], [3, np.nan, 5]])
    assert TimeSeries.from_bytes(b"t,a\r\n2020-01-01,1\r\n2020-01-02,2\r\n").times is not None


@pytest.mark.parametrize(
    "column", [[Decimal("1.5")], [[1.0]], [{"b": 1}], ["u"], [b"u"], [None], [True, None]], ids=repr
)
def test_columns_of_a_table_that_hold_no_numbers(column):
    refused(TimeSeries, parquet(x=[1.0] * len(column), a=column))


@needs_proc
@pytest.mark.slow
def test_a_small_table_cannot_unpack_to_gigabytes(tmp_path):
    data = parquet(**{f"c{i}": np.zeros(1_000_000) for i in range(64)})
    assert len(data) < 1_000_000
    (tmp_path / "x.parquet").write_bytes(data)
    code = """
        try:
            TimeSeries.open(sys.argv[1])
            sys.exit("it was decoded")
        except MediaError as error:
            assert error.code == "media_too_large", error
    """
    assert peak(code, str(tmp_path / "x.parquet")) < 60


def test_limits_of_a_table():
    for limits in (Limits(points=2), Limits(columns=1), Limits(cells=5)):
        with pytest.raises(MediaTooLargeError, match="3 x 2"):
            table_files.decode(b"a,b\n1,2\n3,4\n5,6\n", limits)


@pytest.mark.parametrize(
    ("data", "columns", "values"),
    [
        (b"a;b\n1,5;2\n-3,25;4\n", ("a", "b"), [[1.5, 2], [-3.25, 4]]),  # a spreadsheet with a decimal comma
        (b"a;b\n1.5;2\n3;4\n", ("a", "b"), [[1.5, 2], [3, 4]]),
        (b"a\tb\n1.5\t2\n3\t4\n", ("a", "b"), [[1.5, 2], [3, 4]]),
        ("\ufeffa,b\n1,2\n".encode("utf-16-le"), ("a", "b"), [[1, 2]]),
        (b",a\n0,5\n1,7\n", ("a",), [[5], [7]]),  # the row numbers of pandas
        (b'"","a"\n"1",5\n"2",7\n', ("a",), [[5], [7]]),  # those of R
        (b"a,b,\n1,2,\n3,4,\n", ("a", "b"), [[1, 2], [3, 4]]),
        (b",a\n3,5\n9,7\n", ("Unnamed: 0", "a"), [[3, 5], [9, 7]]),  # numbers that say something
    ],
)  # fmt: skip
def test_tables_that_other_programs_write(data, columns, values):
    series = TimeSeries.from_bytes(data)
    assert series.columns == columns
    assert series.values.tolist() == values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t,a\n2020-01-01,1\nfoo,2\n", "'foo' in row 1, which is no time"),
        ("t,a\n2020-01-01,1\n,2\n2020-01-03,3\n", "time of row 1 is missing"),
        ("t,a\n2020-01-01,1\n2020-01-01,2\n", "time of row 1 does not rise"),
        ("t,a\n2020-03-29 01:00+01:00,1\n2020-03-29 03:00+02:00,2\n", "several zones"),
        ("t,a\n3000-01-01,1\n3000-01-02,2\n", "1678 to 2261"),
        ("a,b\n1,2\nx,3\n4,5\n", "'x' in row 1, which is no number"),
        ("a,b\n1,2\n1,x\n4,5\n", "column 'b' holds 'x' in row 1"),
        ("name,a\nfoo,1\nbar,2\n", "column 'name' holds neither numbers nor times"),
        ("caf\xe9,a\n1,2\n", "save the csv file as UTF-8"),
    ],
)  # fmt: skip
def test_errors_of_a_table_name_the_row_and_the_way_out(text, said):
    assert said in refused(TimeSeries, text.encode("latin-1"))


def test_times_that_nanoseconds_cannot_hold_never_become_others():
    for year in ("1000", "3000"):
        times = np.array([f"{year}-01-01", f"{year}-01-02"], "datetime64[D]")
        with pytest.raises(MediaError, match="row 0 lies outside"):
            TimeSeries(np.zeros((2, 1)), ("a",), times)


def test_a_zone_with_a_clock_change_is_read_as_utc():
    pandas = pytest.importorskip("pandas")
    times = pandas.date_range("2020-10-25", periods=5, freq="h", tz="Europe/Berlin")
    series = TimeSeries.from_frame(pandas.DataFrame({"a": np.arange(5.0)}, index=times))
    assert series.frequency == "h"
    assert series.times[0] == np.datetime64("2020-10-24T22:00")


def test_frames_that_are_none_and_names_that_clash():
    pandas = pytest.importorskip("pandas")
    assert TimeSeries.from_frame(pandas.Series([1.0, 2.0], name="a")).columns == ("a",)
    for none in (None, {"a": [1]}, np.zeros((2, 2))):
        with pytest.raises(MediaError, match="expected a pandas frame"):
            TimeSeries.from_frame(none)
    with pytest.raises(MediaError, match="names differ"):
        TimeSeries(np.zeros((2, 2)), ("a", "a")).to_bytes("parquet")
    clash = TimeSeries(np.zeros((2, 1)), ("time",), np.array(["2020", "2021"], "datetime64[Y]"))
    for format in clash.formats:
        assert TimeSeries.from_bytes(clash.to_bytes(format)).columns == ("time",)
