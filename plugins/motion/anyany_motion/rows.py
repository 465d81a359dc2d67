"""Frames in groups: a row of a span holds a few.

Shapes: T frames, F numbers a frame, R rows, N frames a row, B motions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anyany.plugin import Coordinates, Prepared
from anyany_motion.features import FPS, ROOT


def prepare(features: npt.NDArray[np.float32], frames: int) -> Prepared:
    """``(T, F)`` -> arrays ``x (R, N * F)`` and ``mask (R, N)``; the last row is filled with the last pose at rest."""
    rows = -(-len(features) // frames)
    missing = rows * frames - len(features)
    rest = features[-1:].repeat(missing, axis=0)
    rest[:, [-ROOT, 1 - ROOT, -1]] = 0.0  # it neither moves nor turns
    mask = np.arange(rows * frames) < len(features)
    x = np.concatenate([features, rest]).reshape(rows, -1)
    return Prepared(
        arrays={"x": x, "mask": mask.reshape(rows, frames).astype(np.float32)},
        rows=rows,
        coordinates=coordinates(rows, frames),
    )


def coordinates(rows: int, frames: int) -> Coordinates:
    """Each row at the second at which it starts."""
    values = np.zeros((rows, 3), np.float32)
    values[:, 0] = np.arange(rows) * frames / FPS
    return Coordinates(values=values, unit="seconds")


def stack(batch: Sequence[Prepared], name: str, like: Tensor) -> Tensor:
    """Arrays of different length as one ``(B, R, ...)``, with zeros at the end."""
    longest = max(p.rows for p in batch)
    arrays = [np.pad(p.arrays[name], ((0, longest - p.rows), (0, 0))) for p in batch]
    return torch.from_numpy(np.stack(arrays)).to(like)


def real(batch: Sequence[Prepared], like: Tensor) -> Tensor:
    """Which rows are real: ``(B, R)`` bool."""
    lengths = torch.tensor([p.rows for p in batch], device=like.device)
    return torch.arange(int(lengths.max()), device=like.device) < lengths[:, None]
