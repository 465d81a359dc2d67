"""Time series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaError
from anyany.parts.base import Media, numbers

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(frozen=True, eq=False, repr=False)
class TimeSeries(Media):
    """Values ``(T, C)`` float64 by column; NaN is a missing value.

    ``times (T,)`` datetime64 and ``frequency`` (a pandas offset such as ``"h"``) may be unknown. A forecast
    has ``bands (Q, T, C)``: the values below which the truth lies with the probabilities ``levels (Q,)``.
    """

    modality: ClassVar[str] = "timeseries"
    formats: ClassVar[tuple[str, ...]] = ("csv", "parquet")
    values: npt.NDArray[np.float64]
    columns: tuple[str, ...] = ()
    times: npt.NDArray[np.datetime64] | None = None
    frequency: str | None = None
    levels: tuple[float, ...] = ()
    bands: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        values = numbers("timeseries", self.values, np.float64)
        if values.ndim != 2:
            raise MediaError(f"timeseries: expected values (T, C), got {values.shape}; use TimeSeries.from_array")
        if values.size == 0:
            raise EmptyMediaError(f"timeseries: expected at least one value, got {values.shape}")
        columns = tuple(map(str, self.columns)) or tuple(f"c{i}" for i in range(values.shape[1]))
        if len(columns) != values.shape[1]:
            raise MediaError(f"timeseries: {values.shape[1]} columns of values, {len(columns)} names")
        times = None if self.times is None else _rising(self.times, len(values))
        bands, levels = self.bands, tuple(float(q) for q in self.levels)
        if bands is not None:
            bands = numbers("timeseries", bands, np.float64)
        if (() if bands is None else bands.shape) != ((len(levels), *values.shape) if levels else ()):
            raise MediaError(
                f"timeseries: expected bands {(len(levels), *values.shape)}, one per level, "
                f"got {None if bands is None else bands.shape}"
            )
        self._freeze(values=values, columns=columns, times=times, levels=levels, bands=bands)

    @classmethod
    def from_array(cls, array: npt.ArrayLike, *, columns: Sequence[str] = (), frequency: str | None = None) -> Self:
        """From ``(T,)`` or ``(T, C)``."""
        values = numbers("timeseries", array, np.float64)
        return cls(values[:, None] if values.ndim == 1 else values, tuple(columns), None, frequency)

    @classmethod
    def from_values(cls, values: Sequence[Any], *, columns: Any = (), frequency: Any = None) -> Self:
        """From the numbers of a JSON list, ``(T,)`` or ``(T, C)``; ``None`` is a missing value.

        Raises:
            MediaError: Not numbers, ragged, too many, or names that are no text.
        """
        from anyany.media.limits import DEFAULT
        from anyany.media.table import check_cells

        rows = [row if isinstance(row, list | tuple) else [row] for row in values]
        check_cells(len(rows), len(rows[0]) if rows else 0, DEFAULT)
        texts = [*columns, frequency or ""] if isinstance(columns, list | tuple) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise MediaError("timeseries: expected columns as a list of names, and frequency as text such as 'h'")
        for row in rows:
            if len(row) != len(rows[0]) or any(
                isinstance(x, bool) or not isinstance(x, int | float | None) for x in row
            ):
                raise MediaError("timeseries: expected values as numbers or null, in rows of one length")
        return cls.from_array(np.array(rows, np.float64), columns=columns, frequency=frequency)

    @classmethod
    def from_frame(cls, frame: Any) -> Self:
        """From a pandas frame: numeric columns, and its time index if it has one."""
        from anyany.media.table import from_frame

        return cls(*from_frame(frame))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode csv or parquet; the first column may hold times."""
        from anyany.media.table import decode

        return cls(*decode(data))

    def to_bytes(self, format: str | None = None) -> bytes:
        """Encode as csv or parquet."""
        from anyany.media.table import encode

        return encode(self.values, self.columns, self.times, format or "csv")

    def picture(self) -> PILImage:
        """A line plot."""
        from anyany.media.drawing import lines

        return lines(self.values, self.columns, bands=self.bands)

    def band(self, level: float) -> npt.NDArray[np.float64]:
        """Values ``(T, C)`` below which the truth lies with probability ``level``.

        Raises:
            MediaError: The series has no band of this level.
        """
        if self.bands is None or level not in self.levels:
            raise MediaError(f"timeseries: expected a level among {self.levels or 'none'}, got {level}")
        return np.asarray(self.bands[self.levels.index(level)])

    def with_bands(self) -> Self:
        """The series with each band as columns of its own, such as ``load@0.9``; what ``save`` then keeps."""
        if self.bands is None:
            return self
        names = [f"{column}@{level:g}" for level in self.levels for column in self.columns]
        values = np.concatenate([self.values, *np.asarray(self.bands)], axis=1)
        return type(self)(values, (*self.columns, *names), self.times, self.frequency)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"TimeSeries({len(self.values)} x {', '.join(self.columns[:8])})"


def _rising(given: Any, count: int) -> npt.NDArray[np.datetime64]:
    """Times ``(count,)`` as datetime64[ns]; a date that nanoseconds cannot hold would become another one in silence."""
    try:
        kept = np.asarray(given, "datetime64")
        times = kept.astype("datetime64[ns]")
    except (TypeError, ValueError):
        raise MediaError("timeseries: expected times as datetime64, or None; convert them first") from None
    if times.shape != (count,):
        raise MediaError(f"timeseries: expected {count} times, one per row, got {times.shape}")
    for fault, rows in (
        ("is missing; fill it or drop the row", np.flatnonzero(np.isnat(times))),
        (
            "lies outside of the years 1678 to 2261; leave the times out",
            np.flatnonzero(times.astype(kept.dtype) != kept),
        ),
        ("does not rise; sort and drop duplicates", np.flatnonzero(np.diff(times) <= np.timedelta64(0)) + 1),
    ):
        if len(rows):
            raise MediaError(f"timeseries: the time of row {rows[0]} {fault}")
    return times
