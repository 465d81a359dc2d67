"""Tables that would be misread, and tables that swell."""

from __future__ import annotations

import io
from decimal import Decimal

import numpy as np
import pytest
from hostile import needs_proc, peak, refused

from anyany.errors import MediaDecodeError, MediaError, MediaTooLargeError
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
        ("a,b\n1,2,3\n4,5,6\n", MediaDecodeError), ("t;a\n2020-03-29;1,5\n", MediaDecodeError),
        ("a,b\n1\n1,2,3\n", MediaDecodeError), ("a,b\n1,\x002\n", MediaDecodeError), ("a,b\n", MediaError),
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
