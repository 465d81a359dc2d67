"""The codec: a row is one patch of one column, in units of the series that it continues.

A row holds L values and the share of the patch that is filled, so that a series may end anywhere. A full patch
stands apart from all shares, so that a small error of a head does not cut the last values of a series.

Shapes: T points, C columns, P patches, L points per patch, n = P * C rows, Q quantile levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anyany.parts import Media, TimeSeries
from anyany.plugin import Coordinates, Plan, Prepared, Vectors
from anyany_timeseries import patches

FULL = 1.25
"""Stands for a share of 1; the largest other one is ``1 - 1 / L``."""
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class PatchCodec(nn.Module):
    """Series <-> ``(rows, patch + 1)``; nothing in it is learned.

    Args:
        patch: Points per patch.
        patches: Most patches per column that are generated.
    """

    def __init__(self, *, patch: int, patches: int) -> None:
        super().__init__()
        self.patch, self.patches = patch, patches
        self.latents = Vectors(dim=patch + 1, objective="regression", quantiles=LEVELS)

    def example(self, seed: int) -> TimeSeries:
        """Four days of a daily rhythm."""
        return patches.example(seed)

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """Patches in units of ``like``, or in their own."""
        series = patches.series(media)
        scale = patches.units(self._like(like, len(series.columns)) or series)
        cut = patches.cut(series, scale, self.patch, end=False)  # (P, C, L)
        count, columns = cut.shape[:2]
        share = np.full((count, columns, 1), FULL, np.float32)
        if last := len(series) % self.patch:
            share[-1] = last / self.patch
        rows = np.concatenate([cut, share], axis=-1).reshape(count * columns, -1)
        return Prepared(arrays={"rows": rows}, rows=len(rows), coordinates=self._coordinates(count, columns))

    def plan(self, like: Media | None = None) -> Plan:
        """As many columns as ``like`` has, or one."""
        columns = 1 if like is None else len(patches.series(like).columns)
        count = max(1, min(self.patches, patches.MAX_ROWS // columns))
        return Plan(rows=count * columns, fixed=False, coordinates=self._coordinates(count, columns))

    def _coordinates(self, count: int, columns: int) -> Coordinates:
        return Coordinates(values=patches.coordinates(count, columns))

    def _like(self, like: Media | None, columns: int) -> TimeSeries | None:
        """The series that is continued; one of other columns lends no units."""
        return like if isinstance(like, TimeSeries) and len(like.columns) == columns else None

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """``(sum of n, L + 1)``."""
        return torch.from_numpy(np.concatenate([p.arrays["rows"] for p in batch]))

    def decode(self, latents: Tensor, like: Media | None = None, quantiles: Tensor | None = None) -> TimeSeries:
        """Rows ``(n, L + 1)`` -> a series that continues ``like``.

        Args:
            latents: Of the span.
            like: Gives units, columns, times and frequency.
            quantiles: ``(n, L + 1, Q)``: become the bands of the series.
        """
        before = None if like is None else patches.series(like)
        columns = ("value",) if before is None else before.columns
        rows = latents.double().cpu().numpy()
        count = -(-len(rows) // len(columns))
        share = np.nan_to_num(rows[(count - 1) * len(columns), -1], nan=FULL)
        last = self.patch if share > (1 + FULL) / 2 else int(np.clip(np.round(share * self.patch), 1, self.patch))
        length = (count - 1) * self.patch + last

        def series(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            full = np.full((count * len(columns), self.patch), np.nan)
            full[: len(rows)] = rows[:, : self.patch]
            values = full.reshape(count, len(columns), self.patch).transpose(0, 2, 1).reshape(-1, len(columns))[:length]
            if before is None:
                return values
            scale = patches.units(before)
            with np.errstate(over="ignore"):  # beyond the largest number stands the largest number
                return (values * scale.deviation + scale.mean).clip(-patches.GREATEST, patches.GREATEST)

        values = series(rows)
        bands: dict[str, Any] = {}
        if quantiles is not None:
            each = quantiles.double().cpu().numpy()
            bands = {"levels": LEVELS, "bands": np.stack([series(each[..., q]) for q in range(each.shape[-1])])}
        times = None if before is None else _continue(before, length)
        return TimeSeries(values, columns, times, None if before is None else before.frequency, **bands)

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """Nothing to learn."""
        return {"nothing": torch.zeros(())}


def _continue(series: TimeSeries, count: int) -> npt.NDArray[np.datetime64] | None:
    """Times after the last one, in its latest step."""
    if series.times is None or len(series.times) < 2:
        return None
    return series.times[-1] + (series.times[-1] - series.times[-2]) * np.arange(1, count + 1)


def build_codec(**config: int) -> PatchCodec:
    """The factory of ``timeseries/patches``."""
    return PatchCodec(**config)
