"""What people look at: pictures of sound, frames, series and motion, drawn with Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from anyany.media.packages import need

INK, PAPER, GRID, SHADE = (38, 50, 72), (255, 255, 255), (228, 232, 238), (214, 226, 241)
COLOURS = [(46, 110, 186), (214, 104, 50), (60, 146, 84), (150, 82, 160), (190, 60, 80), (90, 90, 90), (190, 150, 30)]


def _canvas(width: int, height: int) -> tuple[Any, Any]:
    picture = need("PIL.Image", "pillow").new("RGB", (width, height), PAPER)
    return picture, need("PIL.ImageDraw", "pillow").Draw(picture)


def sound(samples: npt.NDArray[np.float32], rate: int, width: int = 420) -> Any:
    """The waveform, and a log spectrogram below it."""
    picture, draw = _canvas(width, 170)
    for x, block in enumerate(np.array_split(samples, min(width, len(samples)))):
        draw.line((x, 35 - 32 * float(block.max()), x, 35 - 32 * float(block.min())), fill=COLOURS[0])
    size = 256
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: max(1, len(padded) // width)]
    power = np.log(np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) + 1e-3)[:, 1:]
    shade = (power - power.min()) / max(float(np.ptp(power)), 1e-6)
    pixels = (255 - 215 * shade.T[::-1]).astype(np.uint8)
    pillow = need("PIL.Image", "pillow")
    picture.paste(pillow.fromarray(pixels).resize((width, 96)).convert("RGB"), (0, 74))
    return picture


def strip(frames: npt.NDArray[np.uint8], count: int = 8, side: int = 72) -> Any:
    """Up to ``count`` frames in a row."""
    chosen = frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)]
    picture, _ = _canvas(len(chosen) * (side + 4), side)
    pillow = need("PIL.Image", "pillow")
    for index, frame in enumerate(chosen):
        picture.paste(pillow.fromarray(frame).resize((side, side)), (index * (side + 4), 0))
    return picture


def lines(
    values: npt.NDArray[np.float64],
    columns: Sequence[str],
    width: int = 420,
    height: int = 160,
    bands: npt.NDArray[np.float64] | None = None,
) -> Any:
    """One line per column; gaps where values are missing; the outermost bands of the first column as a shade."""
    picture, draw = _canvas(width, height)
    every = values if bands is None else np.concatenate([values[None], bands])
    finite = every[np.isfinite(every)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    spread = max(high - low, 1e-9)
    for share in (0.0, 0.5, 1.0):
        y = 8 + (height - 16) * (1 - share)
        draw.line((46, y, width, y), fill=GRID)
        draw.text((2, y - 6), f"{low + share * spread:.3g}", fill=INK)
    xs = 48 + (width - 52) * np.arange(len(values)) / max(len(values) - 1, 1)
    if bands is not None and np.isfinite(bands[:, :, 0]).all() and len(values) > 1:
        edges = 8 + (height - 16) * (1 - (bands[[0, -1], :, 0] - low) / spread)
        draw.polygon([*zip(xs, edges[0], strict=True), *zip(xs[::-1], edges[1, ::-1], strict=True)], fill=SHADE)
    for index in range(min(values.shape[1], len(COLOURS))):
        ys = 8 + (height - 16) * (1 - (values[:, index] - low) / spread)
        for a in range(len(values) - 1):
            if np.isfinite(ys[a : a + 2]).all():
                draw.line((xs[a], ys[a], xs[a + 1], ys[a + 1]), fill=COLOURS[index], width=2)
        draw.text((52 + 90 * (index % 4), 2 + 11 * (index // 4)), columns[index][:14], fill=COLOURS[index])
    return picture


def figures(places: npt.NDArray[np.float32], parents: npt.NDArray[np.int64], count: int = 6, side: int = 130) -> Any:
    """Stick figures at up to ``count`` moments, seen from the front, each centred on its root."""
    chosen = places[np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)]
    picture, draw = _canvas(len(chosen) * side, side)
    flat = chosen[..., :2] - chosen[:, :1, :2] * np.array([1, 0])
    reach = max(float(np.abs(flat[..., 0]).max()) * 2, float(np.ptp(flat[..., 1])), 1e-6)
    floor = float(flat[..., 1].min())
    for index, body in enumerate(flat):
        xs = index * side + side / 2 + body[:, 0] / reach * (side - 16)
        ys = side - 8 - (body[:, 1] - floor) / reach * (side - 16)
        for joint, parent in enumerate(parents.tolist()):
            if parent >= 0:
                draw.line((xs[parent], ys[parent], xs[joint], ys[joint]), fill=INK, width=2)
    return picture


def moving_figure(
    places: npt.NDArray[np.float32], parents: npt.NDArray[np.int64], seconds: float, count: int = 60, side: int = 240
) -> bytes:
    """An animated webp of a stick figure ``(T, J, 3)``, y up, in at most ``count`` frames.

    It is seen from half left and a little above, and stays in the middle; the lines of the floor show where it goes.
    """
    chosen = places[np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)]
    under = chosen[:, :1] * np.array([1, 0, 1])
    body = chosen - under
    body[..., 1] -= body[..., 1].min()
    unit = max(2 * float(np.abs(body[..., [0, 2]]).max()), float(body[..., 1].max()), 1e-6)
    pictures = []
    for figure, (x, _, z) in zip(body / unit, under[:, 0] / unit, strict=True):
        picture, draw = _canvas(side, side)
        for line in np.arange(-1.0, 1.01, 0.25):
            across, along = line - z % 0.25, line - x % 0.25
            draw.line([_seen(-1.0, 0.0, across, side), _seen(1.0, 0.0, across, side)], fill=GRID)
            draw.line([_seen(along, 0.0, -1.0, side), _seen(along, 0.0, 1.0, side)], fill=GRID)
        points = [_seen(*point, side) for point in figure.tolist()]
        for joint, parent in enumerate(parents.tolist()):
            if parent >= 0:
                draw.line((points[parent], points[joint]), fill=INK, width=3)
        pictures.append(picture)
    out, step = io.BytesIO(), max(20, round(1000 * seconds / len(pictures)))
    pictures[0].save(out, "webp", save_all=True, append_images=pictures[1:], duration=step, loop=0, lossless=True)
    return out.getvalue()


def _seen(x: float, y: float, z: float, side: int) -> tuple[float, float]:
    """Where a point of a body of size 1 appears: turned by 35 degrees, its far side a little higher."""
    right, near = 0.82 * x + 0.57 * z, 0.82 * z - 0.57 * x
    return side * (0.5 + 0.8 * right), side * (0.84 - 0.75 * y + 0.25 * near)
