"""The codec: a row is one patch of one column, in units of the series that it continues.

A row holds L values and the share of the patch that is filled, so that a series may end anywhere. A full patch
stands apart from all shares, so that a small error of a head does not cut the last values of a series.

Of a series that continues another one, a row holds only what a linear map of the earlier one does not say. Such a map
is hard to beat (arXiv 2205.13504, 2305.10721), and hard to find for a backbone that must carry every value through its
rows. A head that has learned nothing yet gives the map's forecast.

Shapes: T points, C columns, P patches, L points per patch, n = P * C rows, K points of the past, Q quantile levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.parts import Media, TimeSeries
from anyany.plugin import Coordinates, Plan, Prepared, Vectors
from anyany_timeseries import patches

FULL = 1.25
"""Stands for a share of 1; the largest other one is ``1 - 1 / L``."""
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class PatchCodec(nn.Module):
    """Series <-> ``(rows, patch + 1)``.

    Args:
        patch: Points per patch.
        patches: Most patches per column that are generated.
        past: K, how many points before a series its linear forecast looks at; where there are fewer, their mean
            stands for the rest.
    """

    def __init__(self, *, patch: int, patches: int, past: int) -> None:
        super().__init__()
        self.patch, self.patches, self.past = patch, patches, past
        # Without a bias, so that nothing is forecast where nothing was before, or nothing has moved.
        self.forecast = nn.Linear(past, patch * patches, bias=False)
        nn.init.zeros_(self.forecast.weight)
        self.latents = Vectors(dim=patch + 1, objective="regression", quantiles=LEVELS)

    def example(self, seed: int) -> TimeSeries:
        """Four days of a daily rhythm."""
        return patches.example(seed)

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """Patches in units of ``like``, or in their own, and the end of ``like``."""
        series = patches.series(media)
        before = self._like(like, len(series.columns))
        cut = patches.cut(series, patches.units(before or series), self.patch, end=False)  # (P, C, L)
        count, columns = cut.shape[:2]
        share = np.full((count, columns, 1), FULL, np.float32)
        if last := len(series) % self.patch:
            share[-1] = last / self.patch
        rows = np.concatenate([cut, share], axis=-1).reshape(count * columns, -1)
        past = np.zeros((columns, self.past), np.float32) if before is None else patches.ending(before, self.past)
        return Prepared(
            arrays={"rows": rows, "past": past}, rows=len(rows), coordinates=self._coordinates(count, columns)
        )  # fmt: skip

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
        rows = torch.cat([torch.from_numpy(p.arrays["rows"]) for p in batch]).to(self.forecast.weight.device)
        said = [self._forecast(p.arrays["past"], len(p.arrays["rows"])) for p in batch]
        return rows - F.pad(torch.cat(said), (0, 1))

    def _forecast(self, past: npt.NDArray[np.float32], rows: int) -> Tensor:
        """What the past ``(C, K)`` says about the first rows after it, ``(n, L)``; nothing about later ones."""
        weight = self.forecast.weight
        values = self.forecast(torch.from_numpy(past).to(weight)).float()  # (C, P * L)
        values = values.view(len(past), -1, self.patch).transpose(0, 1).reshape(-1, self.patch)  # (P * C, L)
        return F.pad(values[:rows], (0, 0, 0, max(0, rows - len(values))))

    def decode(self, latents: Tensor, like: Media | None = None, quantiles: Tensor | None = None) -> TimeSeries:
        """Rows ``(n, L + 1)`` -> a series that continues ``like``.

        Args:
            latents: Of the span.
            like: Gives units, columns, times and frequency.
            quantiles: ``(n, L + 1, Q)``: become the bands of the series.
        """
        before = None if like is None else patches.series(like)
        columns = ("value",) if before is None else before.columns
        said: Any = 0.0
        if before is not None:
            said = self._forecast(patches.ending(before, self.past), len(latents)).detach().double().cpu().numpy()
        rows = latents.detach().double().cpu().numpy()
        count = -(-len(rows) // len(columns))
        share = np.nan_to_num(rows[(count - 1) * len(columns), -1], nan=FULL)
        last = self.patch if share > (1 + FULL) / 2 else int(np.clip(np.round(share * self.patch), 1, self.patch))
        length = (count - 1) * self.patch + last

        def series(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            full = np.full((count * len(columns), self.patch), np.nan)
            full[: len(rows)] = rows[:, : self.patch] + said
            values = full.reshape(count, len(columns), self.patch).transpose(0, 2, 1).reshape(-1, len(columns))[:length]
            if before is None:
                return values
            scale = patches.units(before)
            with np.errstate(over="ignore"):  # beyond the largest number stands the largest number
                return (values * scale.deviation + scale.mean).clip(-patches.GREATEST, patches.GREATEST)

        values = series(rows)
        bands: dict[str, Any] = {}
        if quantiles is not None:
            each = quantiles.detach().double().cpu().numpy()
            bands = {"levels": LEVELS, "bands": np.stack([series(each[..., q]) for q in range(each.shape[-1])])}
        times = None if before is None else _continue(before, length)
        return TimeSeries(values, columns, times, None if before is None else before.frequency, **bands)

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """Mean square of what the past does not say, over values that are there."""
        left = self.encode(batch)[:, : self.patch]
        there = left.isfinite()
        return {"forecast": left.where(there, 0.0).square().sum() / there.sum().clamp(min=1)}


def _continue(series: TimeSeries, count: int) -> npt.NDArray[np.datetime64] | None:
    """Times after the last one, in its latest step."""
    if series.times is None or len(series.times) < 2:
        return None
    return series.times[-1] + (series.times[-1] - series.times[-2]) * np.arange(1, count + 1)


def build_codec(**config: int) -> PatchCodec:
    """The factory of ``timeseries/patches``."""
    return PatchCodec(**config)
