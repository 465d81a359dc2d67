"""Pictures as a vision tower of others was trained on them: resized, cropped, scaled, normalised.

Bit for bit what the Pillow image processors of transformers 5 make (``CLIPImageProcessorPil``,
``SiglipImageProcessorPil``): bytes are resized by Pillow, scaled in float64 and rounded to float32, then normalised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from anyany.errors import MediaError, MediaTooLargeError
from anyany.parts import Image, Media

LARGEST = 2**26
"""Pixels of a picture between resizing and cropping; a thin one whose short side is brought to size grows long."""


class Processing:
    """A picture -> ``(3, size, size)`` float32.

    Args:
        size: Pixels a side of the result.
        edge: Pixels that the shorter side is brought to before the middle is cut out; ``None``: both sides are brought
            to ``size``, whatever the picture's shape.
        resample: Filter, as Pillow numbers them: 2 is bilinear, 3 bicubic.
        scale: Factor of the bytes.
        mean: Taken off each channel after that.
        std: Each channel is divided by it.
    """

    def __init__(
        self, *, size: int, edge: int | None, resample: int, scale: float, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.size, self.edge, self.scale = size, edge, scale
        self.resample = Pillow.Resampling(resample)
        self.mean, self.std = np.array(mean, np.float32), np.array(std, np.float32)

    def __call__(self, media: Media) -> npt.NDArray[np.float32]:
        """Pixels of a picture.

        Raises:
            MediaError: The part is no picture.
            MediaTooLargeError: It is so thin that it would grow beyond measure.
        """
        if not isinstance(media, Image):
            raise MediaError(f"image: expected an Image, got {type(media).__name__}")
        height, width = self._goal(media.height, media.width)
        if height * width > LARGEST:
            raise MediaTooLargeError(
                f"image: {media.width}x{media.height} would become {width}x{height} before its middle is cut out, "
                f"at most {LARGEST} pixels; cut it first"
            )
        resized = np.asarray(Pillow.fromarray(media.pixels).resize((width, height), self.resample))
        scaled = (self._middle(resized).astype(np.float64) * self.scale).astype(np.float32)
        return np.ascontiguousarray(((scaled - self.mean) / self.std).transpose(2, 0, 1))

    def _goal(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to resize to."""
        if self.edge is None:
            return self.size, self.size
        long = int(self.edge * max(height, width) / min(height, width))
        return (long, self.edge) if width <= height else (self.edge, long)

    def _middle(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The middle ``(size, size, 3)``; black where the picture does not reach."""
        out = np.zeros((self.size, self.size, 3), np.uint8)
        places = [_overlap(length, self.size) for length in pixels.shape[:2]]
        (to_y, from_y), (to_x, from_x) = places
        out[to_y, to_x] = pixels[from_y, from_x]
        return out


def _overlap(length: int, size: int) -> tuple[slice, slice]:
    """Where the middle of ``length`` pixels lies among ``size``, and which of them it is.

    Of an odd rest, one pixel more is cut off behind and one more is added in front.
    """
    if length >= size:
        first = (length - size) // 2
        return slice(0, size), slice(first, first + size)
    first = (size - length + 1) // 2
    return slice(first, first + length), slice(0, length)
