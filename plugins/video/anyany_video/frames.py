"""Clips of any length and size -> a fixed number of square frames, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from anyany.errors import MediaError
from anyany.parts import Image, Media, Video
from anyany_image import pixels


def chosen(media: Media, count: int) -> tuple[Video, npt.NDArray[np.int64]]:
    """The clip, and ``count`` indices of its frames, evenly spread; short clips repeat frames.

    Raises:
        MediaError: The part is not a clip.
    """
    if not isinstance(media, Video):
        raise MediaError(f"video: expected a Video, got {type(media).__name__}")
    return media, np.linspace(0, len(media.frames) - 1, count).round().astype(np.int64)


def squares(video: Video, indices: npt.NDArray[np.int64], size: int, channels: int) -> npt.NDArray[np.float32]:
    """Those frames as ``(frames, channels, size, size)`` in [0, 1]."""
    return np.stack([pixels.square(Image(video.frames[i]), size, channels) for i in indices])


def cells(times: npt.NDArray[np.floating], side: int) -> npt.NDArray[np.float32]:
    """Coordinates ``(len(times) * side * side, 3)``: seconds, height, width."""
    grid = np.tile(pixels.grid(side), (len(times), 1))
    grid[:, 0] = np.repeat(times, side * side)
    return grid


def clip(values: npt.NDArray[np.float32], fps: float) -> Video:
    """``(frames, channels, H, W)`` in [0, 1] -> a clip."""
    frames = values.transpose(0, 2, 3, 1)
    return Video.from_frames(frames[..., 0] if frames.shape[3] == 1 else frames, fps)


def example(seed: int, size: int) -> Video:
    """A bright square that crosses the picture."""
    draw = np.random.default_rng(seed)
    frames = np.zeros((6, size, size), np.float32)
    y, side = draw.integers(0, size // 2), size // 4
    for t, frame in enumerate(frames):
        x = t * (size - side) // 5
        frame[y : y + side, x : x + side] = 1.0
    return Video.from_frames(frames, 6.0)
