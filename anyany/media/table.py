"""Series: csv and parquet, by pandas."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaError, MediaTooLargeError, UnsupportedMediaError
from anyany.media.limits import DEFAULT, Limits
from anyany.media.packages import check_size, need

Decoded = tuple[npt.NDArray[np.float64], tuple[str, ...], npt.NDArray[np.datetime64] | None, str | None]


def decode(data: bytes, limits: Limits = DEFAULT) -> Decoded:
    """Bytes -> values ``(T, C)``, columns, times or ``None``, frequency or ``None``.

    The first column that holds no numbers is read as times.

    Raises:
        MediaError: Neither csv nor parquet, damaged, empty or too large.
    """
    check_size("timeseries", data, limits)
    pandas = need("pandas", "pandas")
    try:
        if data[:4] == b"PAR1":
            meta = need("pyarrow.parquet", "pyarrow").ParquetFile(io.BytesIO(data)).metadata
            _check(meta.num_rows, meta.num_columns, limits)
            frame = pandas.read_parquet(io.BytesIO(data))
        else:
            frame = _csv(data, limits)
    except MediaError:
        raise
    except Exception:
        raise MediaDecodeError("timeseries: the bytes are neither csv nor parquet, or damaged") from None
    return from_frame(frame, limits)


def from_frame(frame: Any, limits: Limits = DEFAULT) -> Decoded:
    """A pandas frame -> values, columns, times, frequency."""
    pandas = need("pandas", "pandas")
    _check(len(frame), len(frame.columns), limits)
    times = frame.index if isinstance(frame.index, pandas.DatetimeIndex) else None
    if times is None and len(frame.columns) and not pandas.api.types.is_numeric_dtype(frame.dtypes.iloc[0]):
        try:
            times = pandas.DatetimeIndex(pandas.to_datetime(frame.iloc[:, 0], utc=False))
        except Exception:
            raise MediaDecodeError(f"timeseries: column {frame.columns[0]!r} holds neither numbers nor times") from None
        frame = frame.iloc[:, 1:]
    for name, kind in frame.dtypes.items():
        if not pandas.api.types.is_numeric_dtype(kind):
            raise MediaDecodeError(f"timeseries: column {str(name)!r} holds no numbers; drop or convert it")
    values = frame.to_numpy(np.float64, na_value=np.nan)
    if values.size == 0:
        raise EmptyMediaError("timeseries: expected at least one value, got none")
    frequency, stamps = None, None
    if times is not None:
        frequency = _frequency(times)
        stamps = times.tz_localize(None).to_numpy("datetime64[ns]")
    return values, tuple(str(c) for c in frame.columns), stamps, frequency


def _csv(data: bytes, limits: Limits) -> Any:
    """A pandas frame; a line with more fields than the header would shift or lose columns in silence."""
    pandas = need("pandas", "pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)
        try:
            return pandas.read_csv(io.BytesIO(data), nrows=limits.points + 1, index_col=False)
        except pandas.errors.ParserWarning:
            raise MediaDecodeError("timeseries: a line has more fields than the header; name every column") from None


def _check(rows: int, columns: int, limits: Limits) -> None:
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
    """Values ``(T, C)`` -> the bytes of a file; times become the first column."""
    frame = need("pandas", "pandas").DataFrame(values, columns=list(columns))
    if times is not None:
        frame.insert(0, "time", times)
    if format == "csv":
        return bytes(frame.to_csv(index=False).encode())
    if format == "parquet":
        out = io.BytesIO()
        frame.to_parquet(out, index=False)
        return out.getvalue()
    raise UnsupportedMediaError(f"timeseries: cannot write {format!r}; choose csv or parquet")
