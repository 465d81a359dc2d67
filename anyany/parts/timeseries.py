"""Time series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaError
from anyany.parts.base import Media

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(frozen=True, eq=False, repr=False)
class TimeSeries(Media):
    """Values ``(T, C)`` float64 by column; NaN is a missing value.

    ``times (T,)`` datetime64 and ``frequency`` (a pandas offset such as ``"h"``) may be unknown.
    """

    modality: ClassVar[str] = "timeseries"
    formats: ClassVar[tuple[str, ...]] = ("csv", "parquet")
    values: npt.NDArray[np.float64]
    columns: tuple[str, ...] = ()
    times: npt.NDArray[np.datetime64] | None = None
    frequency: str | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values, np.float64)
        if values.ndim != 2:
            raise MediaError(f"timeseries: expected values (T, C), got {values.shape}; use TimeSeries.from_array")
        if values.size == 0:
            raise EmptyMediaError(f"timeseries: expected at least one value, got {values.shape}")
        columns = tuple(self.columns) or tuple(f"c{i}" for i in range(values.shape[1]))
        if len(columns) != values.shape[1]:
            raise MediaError(f"timeseries: {values.shape[1]} columns of values, {len(columns)} names")
        times = self.times
        if times is not None:
            times = np.asarray(times, "datetime64[ns]")
            if times.shape != values.shape[:1]:
                raise MediaError(f"timeseries: {len(values)} rows of values, times {times.shape}")
            falls = np.flatnonzero(np.diff(times) <= np.timedelta64(0))
            if len(falls):
                raise MediaError(f"timeseries: times must rise; row {falls[0] + 1} does not. Sort and drop duplicates")
        self._freeze(values=values, columns=columns, times=times)

    @classmethod
    def from_array(cls, array: npt.ArrayLike, *, columns: Sequence[str] = (), frequency: str | None = None) -> Self:
        """From ``(T,)`` or ``(T, C)``."""
        values = np.asarray(array, np.float64)
        return cls(values[:, None] if values.ndim == 1 else values, tuple(columns), None, frequency)

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

        return lines(self.values, self.columns)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"TimeSeries({len(self.values)} x {', '.join(self.columns[:8])})"
