"""Pictures that are bombs, lie about their size, or are of a kind that is not read."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hostile import needs_proc, peak, refused

from anyany.errors import MediaError, MediaTooLargeError, UnsupportedMediaError
from anyany.media import image as image_files
from anyany.media.limits import Limits
from anyany.parts import Image

pillow = pytest.importorskip("PIL.Image")
DRAW = np.random.default_rng(0)
PICTURE = Image(DRAW.integers(0, 255, (40, 30, 3), np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, extra: bytes = b"", colour: int = 0, crc: bytes | None = None) -> bytes:
    """A grey PNG of the size that its header claims, one byte a pixel."""
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(width + 1)) for _ in range(min(height, 20000))) + packer.flush()
    whole = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return whole if crc is None else whole.replace(struct.pack(">I", zlib.crc32(b"IHDR" + head)), crc)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("side", [20000, 12000])
def test_a_bomb_costs_no_memory(tmp_path, side):
    data = png(side, side)
    assert len(data) < 500_000
    (tmp_path / "bomb.png").write_bytes(data)
    code = """
        try:
            Image.open(sys.argv[1])
            sys.exit("it was decoded")
        except MediaError as error:
            assert error.code == "media_too_large", error
    """
    assert peak(code, str(tmp_path / "bomb.png")) < 20


@needs_proc
@pytest.mark.slow
def test_the_largest_transparent_picture_costs_less_than_a_gigabyte(tmp_path):
    path = tmp_path / "large.png"
    pillow.new("RGBA", (8000, 5000), (10, 20, 30, 128)).save(path)
    assert path.stat().st_size < 300_000
    assert peak("assert Image.open(sys.argv[1]).pixels[0, 0].tolist() == [132, 137, 142]", str(path)) < 900


def test_a_picture_is_refused_by_what_its_header_says():
    for width, height in ((65535, 65535), (1, 60000), (60000, 1), (2**31 - 1, 1), (16385, 2)):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        refused(Image, b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b""))
    with pytest.raises(MediaTooLargeError, match="at most 50 pixels"):
        image_files.decode(PICTURE.to_bytes(), Limits(pixels=50))


@pytest.mark.parametrize("data", [png(0, 5), png(5, 0), png(5, 5, crc=b"oops"), PICTURE.to_bytes()[:60]])
def test_pictures_that_are_damaged(data):
    refused(Image, data)


def test_the_smallest_picture_is_a_picture():
    assert Image.from_bytes(png(1, 1)).pixels.shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("format", "mode"), [("EPS", "RGB"), ("TIFF", "RGB"), ("PSD", None), ("BMP", "RGB"), ("PDF", "RGB"), ("ICO", "RGB")]
)
def test_formats_that_are_not_read(format, mode):
    data = b"8BPS\x00\x01" + bytes(60)
    if mode is not None:
        out = io.BytesIO()
        pillow.new(mode, (32, 32)).save(out, format)
        data = out.getvalue()
    refused(Image, data, UnsupportedMediaError)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_read(format):
    frames = [pillow.new("RGB", (200, 200), (i, 0, 255 - i)) for i in range(60)]
    out = io.BytesIO()
    options = {"lossless": True} if format == "WEBP" else {}
    frames[0].save(out, format, save_all=True, append_images=frames[1:], **options)
    assert Image.from_bytes(out.getvalue()).pixels[0, 0].tolist() == [0, 0, 255]


def test_a_text_chunk_of_many_megabytes_is_bounded():
    packed = zlib.compress(bytes(64 << 20))
    assert len(packed) < 100_000
    with suppress(MediaError):  # refusing it is as good
        assert Image.from_bytes(png(3, 3, extra=chunk(b"zTXt", b"k\0\0" + packed))).pixels.shape == (3, 3, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_of_pixels_becomes_colour(mode):
    grey = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    wide = grey.astype(np.uint16) * 257
    picture = pillow.fromarray(wide) if mode == "I;16" else pillow.fromarray(grey).convert("RGB").convert(mode)
    out = io.BytesIO()
    picture.save(out, "JPEG" if mode == "CMYK" else "PNG", **({"quality": 100} if mode == "CMYK" else {}))
    got = Image.from_bytes(out.getvalue()).pixels
    expected = np.asarray(picture.convert("RGB")) if mode != "I;16" else np.repeat(grey[..., None], 3, axis=2)
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= (12 if mode == "CMYK" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_read_upright(orientation):
    upright = pillow.fromarray(PICTURE.pixels)
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # what undoes the turn of EXIF
    stored = upright if back is None else upright.transpose(pillow.Transpose(back))
    exif = pillow.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored.save(out, "PNG", exif=exif)
    np.testing.assert_array_equal(Image.from_bytes(out.getvalue()).pixels, PICTURE.pixels)


def test_transparent_pixels_lie_on_white():
    out = io.BytesIO()
    pillow.fromarray(np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], np.uint8)).save(out, "PNG")
    assert Image.from_bytes(out.getvalue()).pixels[0].tolist() == [[255] * 3, [10, 20, 30], [127] * 3]
