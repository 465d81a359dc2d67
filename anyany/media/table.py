"""Series: csv and parquet, by pandas."""

from __future__ import annotations

import codecs
import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaError, MediaTooLargeError, UnsupportedMediaError
from anyany.media.limits import DEFAULT, Limits
from anyany.media.packages import check_size, need

Decoded = tuple[npt.NDArray[np.float64], tuple[str, ...], npt.NDArray[np.datetime64] | None, str | None]


def decode(data: bytes, limits: Limits = DEFAULT) -> Decoded:
    """Bytes -> values ``(T, C)``, columns, times or ``None``, frequency or ``None``.

    The first column that holds no numbers is read as times. Fields of a csv file are parted by commas,
    semicolons or tabs; where it is not by commas, numbers may have a decimal comma.

    Raises:
        MediaError: Neither csv nor parquet, damaged, empty or too large.
    """
    check_size("timeseries", data, limits)
    if not data:
        raise EmptyMediaError("timeseries: expected a file, got no bytes")
    pandas = need("pandas", "pandas")
    try:
        if data[:4] == b"PAR1":
            meta = need("pyarrow.parquet", "pyarrow").ParquetFile(io.BytesIO(data)).metadata
            check_cells(meta.num_rows, meta.num_columns, limits)
            frame = pandas.read_parquet(io.BytesIO(data))
        else:
            frame = _csv(data, limits)
    except MediaError:
        raise
    except Exception:
        raise MediaDecodeError("timeseries: the bytes are neither csv nor parquet, or damaged") from None
    return from_frame(frame, limits)


def from_frame(frame: Any, limits: Limits = DEFAULT) -> Decoded:
    """A pandas frame or series -> values, columns, times, frequency. Times with a zone become UTC."""
    pandas = need("pandas", "pandas")
    if isinstance(frame, pandas.Series):
        frame = frame.to_frame()
    if not isinstance(frame, pandas.DataFrame):
        raise MediaError(f"timeseries: expected a pandas frame, got {type(frame).__name__}; use TimeSeries.from_array")
    check_cells(len(frame), len(frame.columns), limits)
    if frame.size == 0:
        raise EmptyMediaError(f"timeseries: expected at least one value, got {len(frame)} rows")
    times = frame.index.to_timestamp() if isinstance(frame.index, pandas.PeriodIndex) else frame.index
    if not isinstance(times, pandas.DatetimeIndex):
        times = None
        if not pandas.api.types.is_numeric_dtype(frame.dtypes.iloc[0]):
            times, frame = _times(frame.iloc[:, 0]), frame.iloc[:, 1:]
    for index, kind in enumerate(frame.dtypes):
        if not pandas.api.types.is_numeric_dtype(kind):
            fault = _stranger(frame.iloc[:, index], pandas.to_numeric, "number") or "holds no numbers"
            raise MediaDecodeError(f"timeseries: column {str(frame.columns[index])!r} {fault}; drop or convert it")
    values = frame.to_numpy(np.float64, na_value=np.nan)
    if values.size == 0:
        raise EmptyMediaError("timeseries: expected at least one value, got none besides the times")
    frequency = None if times is None else _frequency(times)
    return values, tuple(str(c) for c in frame.columns), None if times is None else _stamps(times), frequency


def _csv(data: bytes, limits: Limits) -> Any:
    """A pandas frame; a line with more fields than the header would shift or lose columns in silence."""
    pandas = need("pandas", "pandas")
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise MediaDecodeError("timeseries: neither parquet nor text in UTF-8; save the csv file as UTF-8") from None
    head = text.partition("\n")[0]
    mark = max(",;\t", key=head.count)
    decimal = "," if mark != "," and re.search(r"\d,\d", text) else "."
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)
        try:
            frame = pandas.read_csv(
                io.BytesIO(data), nrows=limits.points + 1, index_col=False, encoding=encoding, sep=mark, decimal=decimal
            )
        except pandas.errors.ParserWarning:
            raise MediaDecodeError("timeseries: a line has more fields than the header; name every column") from None
    return _named(frame)


def _named(frame: Any) -> Any:
    """Without what has no heading and says nothing: the row numbers that programs write first, an empty last column."""
    if len(frame.columns) > 1 and frame.columns[0] == "Unnamed: 0":
        numbers = frame.iloc[:, 0].to_numpy()
        if any(np.array_equal(numbers, np.arange(first, first + len(frame))) for first in (0, 1)):
            frame = frame.iloc[:, 1:]
    last = len(frame.columns) - 1
    if last > 0 and frame.columns[last].startswith("Unnamed: ") and frame.iloc[:, last].isna().all():
        frame = frame.iloc[:, :last]
    return frame


def _times(column: Any) -> Any:
    """A column as a time index."""
    pandas = need("pandas", "pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # day before month, which is unambiguous where it is said
        warnings.filterwarnings("error", "Could not infer format")  # a guess per row, and slow
        try:
            return pandas.DatetimeIndex(pandas.to_datetime(column))
        except Exception:
            fault = _stranger(column, pandas.to_numeric, "number", most=True) or _stranger(
                column, pandas.to_datetime, "time such as 2020-01-31 12:00", utc=True
            )
    if fault == "":
        raise MediaDecodeError(f"timeseries: the times {str(column.name)!r} are of several zones; bring them to one")
    raise MediaDecodeError(f"timeseries: column {str(column.name)!r} {fault or 'holds neither numbers nor times'}")


def _stranger(column: Any, parse: Callable[..., Any], kind: str, most: bool = False, **options: Any) -> str | None:
    """Which row is at fault; empty when none is, ``None`` when all are, or with ``most`` the larger half."""
    try:
        bad = (parse(column, errors="coerce", **options).isna() & column.notna()).to_numpy()
    except Exception:
        return None
    if bad.all() or (most and bad.mean() > 0.5):
        return None
    if not bad.any():
        return ""
    row = int(bad.argmax())
    return f"holds {str(column.iloc[row])[:40]!r} in row {row}, which is no {kind}"


def _stamps(times: Any) -> npt.NDArray[np.datetime64]:
    """Times as UTC without a zone, ``(T,)`` datetime64[ns]."""
    times = times if times.tz is None else times.tz_convert("UTC").tz_localize(None)
    try:
        stamps: npt.NDArray[np.datetime64] = times.as_unit("ns").to_numpy()
    except (ValueError, OverflowError):
        raise MediaDecodeError("timeseries: expected times from the year 1678 to 2261; leave them out") from None
    return stamps


def check_cells(rows: int, columns: int, limits: Limits) -> None:
    """Refuse a table that is too large, before anything is made of it.

    Raises:
        MediaTooLargeError: More rows, columns or cells than the limits allow.
    """
    if rows > limits.points or columns > limits.columns or rows * columns > limits.cells:
        raise MediaTooLargeError(
            f"timeseries: at most {limits.points} rows, {limits.columns} columns and {limits.cells} values, "
            f"got {rows} x {columns}"
        )


def _frequency(times: Any) -> str | None:
    """A pandas offset such as ``"h"``, or ``None`` where the steps differ."""
    if len(times) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas 3 announces that 4 will return an object in place of text
        found = need("pandas", "pandas").infer_freq(times)
    text: str | None = getattr(found, "freqstr", found)
    return text


def encode(
    values: npt.NDArray[np.float64], columns: Sequence[str], times: npt.NDArray[np.datetime64] | None, format: str
) -> bytes:
    """Values ``(T, C)`` -> the bytes of a file; times become the first column.

    Raises:
        MediaError: No such format, or two columns of one name.
    """
    if format not in ("csv", "parquet"):
        raise UnsupportedMediaError(f"timeseries: cannot write {format!r}; choose csv or parquet")
    if len(set(columns)) < len(columns):
        raise MediaError(f"timeseries: a file needs columns whose names differ, got {', '.join(columns)}")
    frame = need("pandas", "pandas").DataFrame(values, columns=list(columns))
    if times is not None:
        name = "time"
        while name in columns:
            name += "_"
        frame.insert(0, name, times)
    if format == "csv":
        return bytes(frame.to_csv(index=False).encode())
    out = io.BytesIO()
    frame.to_parquet(out, index=False)
    return out.getvalue()
