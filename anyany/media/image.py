"""Pictures: png, jpeg, webp and gif, by Pillow."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaError, MediaTooLargeError, UnsupportedMediaError
from anyany.media.limits import DEFAULT, Limits
from anyany.media.packages import check_size, need

SIDES = {"PNG": 2**31 - 1, "JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535}
"""Largest side that each format holds."""
FORMATS = tuple(SIDES)


def decode(data: bytes, limits: Limits = DEFAULT) -> npt.NDArray[np.uint8]:
    """Bytes -> ``(H, W, 3)`` RGB, upright, on white where transparent; of an animation the first frame.

    Raises:
        MediaError: Not one of the formats, damaged, empty or too large. Size is checked before decoding.
    """
    check_size("image", data, limits)
    if not data:
        raise EmptyMediaError("image: expected a file, got no bytes")
    pillow, ops = need("PIL.Image", "pillow"), need("PIL.ImageOps", "pillow")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = pillow.open(io.BytesIO(data), formats=FORMATS)
    except pillow.DecompressionBombError:
        raise MediaTooLargeError(f"image: at most {limits.pixels} pixels; scale it down") from None
    except Exception:
        raise UnsupportedMediaError(
            f"image: expected one of {', '.join(FORMATS).lower()}; the bytes are none of them"
        ) from None
    width, height = picture.size
    if width * height > limits.pixels or max(width, height) > limits.side:
        raise MediaTooLargeError(
            f"image: at most {limits.pixels} pixels and {limits.side} a side, got {width}x{height}; scale it down"
        )
    try:
        picture.load()
        return _rgb(ops.exif_transpose(picture))
    except Exception:
        raise MediaDecodeError("image: the file is damaged or cut off; save it again") from None


def from_pillow(picture: Any) -> npt.NDArray[np.uint8]:
    """A Pillow picture -> ``(H, W, 3)`` RGB, on white where transparent.

    Raises:
        MediaError: It is no Pillow picture, has no pixels, or is of a mode without colours.
    """
    pillow = need("PIL.Image", "pillow")
    if not isinstance(picture, pillow.Image):
        raise MediaError(f"image: expected a Pillow picture, got {type(picture).__name__}; use Image.from_array")
    try:
        return _rgb(picture)
    except Exception:
        raise MediaError(
            f"image: a Pillow picture of mode {picture.mode!r} cannot be read; convert it to RGB"
        ) from None


def _rgb(picture: Any) -> npt.NDArray[np.uint8]:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        values = np.asarray(picture).astype(np.float64)
        return np.repeat((values / 257).round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode == "F":
        raise ValueError("floats have no scale")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        paper = need("PIL.Image", "pillow").new("RGB", rgba.size, "white")  # bytes: floats would take gigabytes
        paper.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(paper)
    return np.asarray(picture.convert("RGB"))


def encode(pixels: npt.NDArray[np.uint8], format: str) -> bytes:
    """``(H, W, 3)`` -> the bytes of a file.

    Raises:
        UnsupportedMediaError: There is no such format, or it holds no picture of this size.
    """
    kind = {"jpg": "JPEG"}.get(format, format.upper())
    if kind not in FORMATS:
        raise UnsupportedMediaError(f"image: cannot write {format!r}; choose one of {', '.join(FORMATS).lower()}")
    out = io.BytesIO()
    options = {"quality": 92} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    height, width = pixels.shape[:2]
    if max(height, width) > SIDES[kind]:
        raise UnsupportedMediaError(f"image: {format} holds {SIDES[kind]} pixels a side, got {width}x{height}; use png")
    need("PIL.Image", "pillow").fromarray(pixels).save(out, kind, **options)
    return out.getvalue()
