"""Pictures of any size -> one square, and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from anyany.errors import MediaError
from anyany.parts import Image, Media


def square(media: Media, size: int, channels: int) -> npt.NDArray[np.float32]:
    """A picture as ``(channels, size, size)`` in [0, 1].

    It is scaled to fit and centred; the border takes the colour that its own border mostly has.

    Raises:
        MediaError: The part is not a picture.
    """
    if not isinstance(media, Image):
        raise MediaError(f"image: expected an Image, got {type(media).__name__}")
    pixels = media.pixels
    if pixels.shape[:2] != (size, size):
        pixels = _fit(pixels, size)
    values = pixels.astype(np.float32) / 255
    if channels == 1:
        values = values @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _fit(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    scale = size / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    small = np.asarray(
        Pillow.fromarray(pixels).resize(
            (width, height), Pillow.Resampling.BOX if scale < 1 else Pillow.Resampling.BICUBIC
        )
    )
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    out = np.empty((size, size, 3), np.uint8)
    out[:] = np.median(border, axis=0).astype(np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    out[top : top + height, left : left + width] = small
    return out


def picture(values: npt.NDArray[np.float32]) -> Image:
    """``(channels, H, W)`` in [0, 1] -> a picture."""
    array = values.transpose(1, 2, 0)
    return Image.from_array(array[..., 0] if array.shape[2] == 1 else array)


def example(seed: int, size: int) -> Image:
    """A few random strokes of light on dark."""
    draw = np.random.default_rng(seed)
    values = np.zeros((size, size), np.float32)
    for _ in range(3):
        x, y = draw.integers(0, size, 2)
        values[x : x + size // 3, y : y + size // 8 + 1] = draw.uniform(0.4, 1.0)
    return Image.from_array(values)


def grid(side: int) -> npt.NDArray[np.float32]:
    """Coordinates ``(side * side, 3)`` of the cells of a square: time 0, height, width."""
    rows, columns = np.divmod(np.arange(side * side), side)
    return np.stack([np.zeros_like(rows), rows, columns], axis=1).astype(np.float32)
