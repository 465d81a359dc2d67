"""Pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaError
from anyany.parts.base import Media, colours, numbers

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(frozen=True, eq=False, repr=False)
class Image(Media):
    """A picture: ``pixels (H, W, 3)`` uint8 RGB."""

    modality: ClassVar[str] = "image"
    formats: ClassVar[tuple[str, ...]] = ("png", "jpeg", "webp", "gif")
    pixels: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        pixels = numbers("image", self.pixels)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise MediaError(
                f"image: expected pixels (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}; use Image.from_array"
            )
        if pixels.size == 0:
            raise EmptyMediaError(f"image: expected at least one pixel, got {pixels.shape}")
        self._freeze(pixels=pixels)

    @classmethod
    def from_array(cls, array: npt.ArrayLike) -> Self:
        """From ``(H, W)`` or ``(H, W, 1)`` grey, ``(H, W, 3)`` or ``(H, W, 4)``; integers 0..255 or floats 0..1.

        Raises:
            MediaError: Of another shape, or on another scale.
        """
        values = colours("image", array)
        if values.ndim == 2:
            values = values[..., None]
        if values.ndim == 3 and values.shape[2] == 1:
            values = values.repeat(3, axis=2)
        if values.ndim == 3 and values.shape[2] == 4:
            alpha = values[..., 3:].astype(np.float32) / 255
            values = np.round(values[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
        return cls(values)

    @classmethod
    def from_pil(cls, picture: PILImage) -> Self:
        """From a Pillow picture of any mode, as a file of it would be read.

        Raises:
            MediaError: It is none.
        """
        from anyany.media.image import from_pillow

        return cls(from_pillow(picture))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode png, jpeg, webp or gif (the first frame)."""
        from anyany.media.image import decode

        return cls(decode(data))

    def to_bytes(self, format: str | None = None) -> bytes:
        """Encode as png, jpeg, webp or gif."""
        from anyany.media.image import encode

        return encode(self.pixels, format or "png")

    @property
    def width(self) -> int:
        """Pixels across."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels down."""
        return int(self.pixels.shape[0])

    def picture(self) -> PILImage:
        """Itself; small ones are enlarged in whole steps, so that a person sees them."""
        from PIL import Image as Pillow

        zoom = max(1, 160 // max(self.width, self.height))
        return Pillow.fromarray(self.pixels).resize((self.width * zoom, self.height * zoom), Pillow.Resampling.NEAREST)

    def __repr__(self) -> str:
        return f"Image({self.width}x{self.height})"
