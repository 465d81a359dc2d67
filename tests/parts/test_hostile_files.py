"""Files made to harm: bombs, lies, damage, and files that point at others. Every one ends in a typed error."""

from __future__ import annotations

import io
import os
import random
import re
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from collections import Counter
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from anyany.errors import (
    AnyanyError,
    EmptyMediaError,
    MediaDecodeError,
    MediaError,
    MediaTooLargeError,
    UnsupportedMediaError,
)
from anyany.media import audio as audio_files
from anyany.media import image as image_files
from anyany.media import table as table_files
from anyany.media import video as video_files
from anyany.media.limits import Limits
from anyany.parts import Audio, Image, Media, Motion, Skeleton, TimeSeries, Video

av = pytest.importorskip("av")
pillow = pytest.importorskip("PIL.Image")
soundfile = pytest.importorskip("soundfile")
MEDIA = (Image, Audio, Video, TimeSeries, Motion)
DRAW = np.random.default_rng(0)
PICTURE = Image(DRAW.integers(0, 255, (40, 30, 3), np.uint8))
TONE = Audio.from_array(np.sin(np.arange(9000) / 5).astype(np.float32) * 0.5, 8000)
FILM = Video.from_frames(DRAW.integers(0, 255, (12, 48, 64, 3), np.uint8), 12.0)
TALKIE = Video.from_frames(DRAW.integers(0, 255, (9, 48, 64, 3), np.uint8), 9.0, TONE)
CLIP = Motion(
    np.tile([1.0, 0, 0, 0], (3, 2, 1)), np.zeros((3, 3)),
    Skeleton(("hip", "knee"), np.array([-1, 0]), np.array([[0, 1, 0], [0, -0.5, 0]])), 10.0,
)  # fmt: skip


def refused(media: type[Media], data: bytes, error: type[MediaError] = MediaError) -> str:
    """The message of the typed error; it never repeats a library's text or an address."""
    with pytest.raises(error) as caught:
        media.from_bytes(data)
    message = str(caught.value)
    assert not re.search(r"0x[0-9a-f]{6}|object at|BytesIO|Traceback|avcodec|libsnd|Errno", message), message
    assert message.startswith((media.modality, "motion", "skeleton"))
    return message


# Every kind.


@pytest.mark.parametrize("media", MEDIA, ids=lambda m: m.modality)
@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\x00" * 5000, b"\xff" * 5000, bytes(range(256)) * 40, b"PK\x03\x04", b"PK\x05\x06" + bytes(18),
     b"RIFF\xff\xff\xff\xffWAVE", b"\x89PNG\r\n\x1a\n", b"glTF\x02\x00\x00\x00", b"PAR1PAR1", b"GIF89a", b"%PDF-1.7",
     b"\x80\x04cos\nsystem\n(S'touch canary'\ntR.", b"{}", b"\x1f\x8b\x08", b"HIERARCHY\n", "\ufeff".encode()],
    ids=repr,
)  # fmt: skip
def test_bytes_of_nothing(media, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(media, data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("media", MEDIA, ids=lambda m: m.modality)
def test_a_file_beyond_the_limit_is_refused_before_it_is_read(media):
    assert "33554432 bytes" in refused(media, b"x" * ((32 << 20) + 1), MediaTooLargeError)


@pytest.mark.parametrize(
    ("media", "format"),
    [(m, f) for m in (PICTURE, TONE, FILM, CLIP) for f in m.formats] + [(TALKIE, "mp4"), (TALKIE, "webm")],
    ids=lambda x: x if isinstance(x, str) else x.modality,
)
def test_random_damage_raises_nothing_but_media_errors(media, format):
    data = media.to_bytes(format)
    seen: Counter[str] = Counter()
    for seed in range(40):
        chance = random.Random(seed)
        bad = bytearray(data)
        for _ in range(chance.choice([1, 5, 50])):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        if chance.random() < 0.3:
            bad = bad[: chance.randrange(len(bad))]
        try:
            type(media).from_bytes(bytes(bad))
            seen["read"] += 1
        except MediaError as error:
            seen[type(error).__name__] += 1
    assert sum(seen.values()) == 40
    assert seen["read"] < 40


@pytest.mark.parametrize("media", [PICTURE, TONE, FILM, CLIP], ids=lambda m: m.modality)
def test_the_content_decides_not_the_name(media, tmp_path):
    for other in MEDIA:
        path = tmp_path / f"x.{other.formats[0]}"
        path.write_bytes(media.to_bytes())
        if other is type(media):
            assert other.open(path).modality == media.modality
        elif other is not Video or type(media) is not Image:
            with pytest.raises(MediaError):
                other.open(path)


@pytest.mark.parametrize("path", ["", "/", "nowhere", "a\0b", "x" * 5000, "http://127.0.0.1/x", "file:///etc/passwd"])
def test_paths_that_cannot_be_read(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for media in MEDIA:
        with pytest.raises(MediaDecodeError, match="cannot read the file"):
            media.open(path)


def peak(code: str, *arguments: str) -> int:
    """Megabytes that a process of its own needs on top of its imports."""
    script = f"""
import resource, sys
from anyany.errors import MediaError
from anyany.parts import Audio, Image, Motion, TimeSeries, Video
import PIL.Image, av, numpy, pandas, pyarrow.parquet, soundfile
def used():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
before = used()
{textwrap.dedent(code)}
print((used() - before) // 1024)
"""
    out = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert out.returncode == 0, out.stderr
    return int(out.stdout)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")


# Pictures.


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
        refused(Image, png(width, height) if width * height < 10**6 else png(width, 1)[:60], MediaError)
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
    try:
        assert Image.from_bytes(png(3, 3, extra=chunk(b"zTXt", b"k\0\0" + packed))).pixels.shape == (3, 3, 3)
    except MediaError:
        pass  # refusing it is as good


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


# Sound.


def wav(
    rate: int = 8000, channels: int = 1, bits: int = 16, data: bytes = bytes(200), claim: int | None = None
) -> bytes:
    frame = channels * ((bits + 7) // 8)
    head = struct.pack("<HHIIHH", 1, channels, rate % 2**32, rate * frame % 2**32, frame % 2**16, bits)
    claimed = len(data) if claim is None else claim
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + head + (
        b"data" + struct.pack("<I", claimed) + data
    )  # fmt: skip


def written(samples: np.ndarray, rate: int, format: str, subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=format, subtype=subtype)
    return out.getvalue()


def test_a_lying_length_is_read_for_what_is_there():
    for claim in (0xFFFFFFF0, 0x7FFFFFFF, 10**6):
        assert Audio.from_bytes(wav(claim=claim)).samples.shape == (1, 100)


@pytest.mark.parametrize(
    "data",
    [wav(rate=0), wav(rate=4_000_000_000), wav(rate=7999), wav(rate=192_001), wav(channels=0), wav(channels=9),
     wav(channels=255, data=bytes(510)), wav(data=b""), wav(bits=0)],
    ids=["rate 0", "rate 4e9", "rate 7999", "rate 192001", "0 channels", "9 channels", "255 channels", "empty", "0 bits"],
)  # fmt: skip
def test_sound_that_no_model_can_hear(data):
    refused(Audio, data)


@needs_proc
@pytest.mark.slow
def test_a_long_silence_costs_no_memory(tmp_path):
    (tmp_path / "hour.flac").write_bytes(written(np.zeros(8000 * 3600, np.int16), 8000, "FLAC"))
    code = """
        try:
            Audio.open(sys.argv[1])
            sys.exit("it was decoded")
        except MediaError as error:
            assert error.code == "media_too_large", error
    """
    assert (tmp_path / "hour.flac").stat().st_size < 200_000
    assert peak(code, str(tmp_path / "hour.flac")) < 20


def test_channels_and_rates_cannot_hide_a_length():
    """Eight channels at a rate that makes them look short: the guard counts decoded bytes."""
    data = written(np.zeros((100_000, 8), np.int16), 48_000, "FLAC")
    with pytest.raises(MediaTooLargeError, match="bytes of samples"):
        audio_files.decode(data, Limits(audio_bytes=1_000_000))
    forged = bytearray(data)
    forged[18:21] = struct.pack(">I", 655_350 << 4 | 0xE)[1:]  # the rate of a FLAC header, 20 bits
    refused(Audio, bytes(forged))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_sound_that_is_not_a_number(value):
    samples = np.zeros(100, np.float32)
    samples[7] = value
    refused(Audio, written(samples, 8000, "WAV", "FLOAT"), MediaDecodeError)


def test_sound_beyond_full_scale_is_clipped():
    samples = np.array([1e30, -1e30, 0.5], np.float32)
    assert Audio.from_bytes(written(samples, 8000, "WAV", "FLOAT")).samples.tolist() == [[1.0, -1.0, 0.5]]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "ALAW", "ULAW", "DOUBLE"])
def test_every_width_of_samples_is_the_same_sound(subtype):
    got = Audio.from_bytes(written(TONE.samples.T, 8000, "WAV", subtype))
    assert got.rate == 8000
    assert np.abs(got.samples - TONE.samples).max() < 0.03


def test_an_mp3_with_a_large_tag_and_a_chained_ogg():
    tag = b"ID3\x04\x00\x00" + bytes([0, 0x7F, 0x7F, 0x7F]) + bytes(0x1FFFFF)
    for data in (tag + TONE.to_bytes("mp3"), TONE.to_bytes("ogg") * 3):
        try:
            assert Audio.from_bytes(data).rate == 8000
        except MediaError:
            pass  # refusing it is as good


# Films.


def film(
    width: int, height: int, frames: int = 8, *, start: int = 0, codec: str = "libx264", to: str = "mpegts"
) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=to) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            pixels = np.full((height, width, 3), 20 * index % 255, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts = start + index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


SCRIPTS = {
    "ffconcat": b"ffconcat version 1.0\nfile canary.mp4\n",
    "ffconcat with a byte-order mark": b"\xef\xbb\xbfffconcat version 1.0\nfile 'canary.mp4'\n",
    "m3u8 relative": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ncanary.mp4\n#EXT-X-ENDLIST\n",
    "m3u8 file": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:canary.mp4\n#EXT-X-ENDLIST\n",
    "m3u8 http": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
    "dash": b"<?xml version='1.0'?><MPD><Period><AdaptationSet><Representation><BaseURL>canary.mp4</BaseURL>"
    b"</Representation></AdaptationSet></Period></MPD>",
    "sdp": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=video 9 RTP/AVP 96\r\n",
    "image pattern": b"img%03d.png",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_film_opens_a_file_or_a_socket(script, tmp_path, monkeypatch):
    """By content and by path: the canary is never touched, and no address is dialled."""
    canary = tmp_path / "canary.mp4"
    canary.write_bytes(FILM.to_bytes("mp4"))
    os.utime(canary, (1, 1))
    monkeypatch.chdir(tmp_path)
    refused(Video, SCRIPTS[script], UnsupportedMediaError)
    for suffix in ("mp4", "m3u8", "ffconcat", "mpd"):
        path = tmp_path / f"upload.{suffix}"
        path.write_bytes(SCRIPTS[script])
        with pytest.raises(UnsupportedMediaError):
            Video.open(path)
    assert canary.stat().st_atime == 1


@pytest.mark.parametrize(("codec", "container"), [("ffv1", "matroska"), ("magicyuv", "matroska"), ("ffv1", "avi")])
def test_codecs_off_the_list_are_refused_before_they_run(codec, container):
    assert codec in refused(Video, film(64, 48, codec=codec, to=container), UnsupportedMediaError)


def test_sound_alone_is_no_film():
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    refused(Video, out.getvalue(), UnsupportedMediaError)


def test_frames_that_change_their_size():
    both = film(128, 96) + film(256, 192, start=50)
    assert "change their size" in refused(Video, both, MediaDecodeError)


@pytest.mark.parametrize(
    ("limits", "message"),
    [(Limits(frame_pixels=1000), "at most 1000 pixels a frame"), (Limits(video_seconds=0.5), "at most 0.5 s")],
)
def test_limits_of_a_film(limits, message):
    for data in (film(128, 96, to="mp4"), film(128, 96)):
        with pytest.raises(MediaTooLargeError, match=message):
            video_files.decode(data, limits)


def test_of_a_long_film_few_frames_are_kept():
    frames, times, _, truncated = video_files.decode(film(64, 48, 200), Limits(frames=7))
    assert 4 <= len(frames) <= 7
    assert not truncated
    assert np.ptp(np.diff(times)) < 1e-6
    assert times[-1] > 9


def test_a_film_whose_header_lies_about_its_size():
    data = film(64, 48, to="mp4")
    at = data.index(b"avc1") + 4 + 24  # width and height of the sample entry
    lying = data[:at] + struct.pack(">HH", 65535, 65535) + data[at + 4 :]
    tracks = lying.replace(struct.pack(">II", 64 << 16, 48 << 16), struct.pack(">II", 65535 << 16, 65535 << 16))
    for forged in (lying, tracks):
        try:
            assert Video.from_bytes(forged).frames.shape[1:3] == (48, 64)  # the stream itself is believed
        except MediaError:
            pass


@needs_proc
@pytest.mark.slow
def test_a_film_cannot_ask_for_memory_by_its_header(tmp_path):
    data = film(64, 48, to="mp4")
    at = data.index(b"avc1") + 4 + 24
    (tmp_path / "x.mp4").write_bytes(data[:at] + struct.pack(">HH", 65535, 65535) + data[at + 4 :])
    code = """
        try:
            Video.open(sys.argv[1])
        except MediaError:
            pass
    """
    assert peak(code, str(tmp_path / "x.mp4")) < 200


DATA = Path(os.environ.get("ANYANY_DATA", "data")) / "media"


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "nasa_13013.mp4").exists(), reason="the film is not there; set ANYANY_DATA")
def test_a_real_film_with_six_streams():
    data = (DATA / "nasa_13013.mp4").read_bytes()
    whole = Video.from_bytes(data)
    assert whole.frames.shape[1:] == (270, 480, 3)  # of two video streams the one with more pixels
    assert whole.audio is not None
    refused(Video, data[: len(data) // 2])
    for seed in range(150):
        chance, bad = random.Random(seed), bytearray(data)
        for _ in range(chance.choice([1, 5, 50, 500])):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        try:
            Video.from_bytes(bytes(bad))
        except AnyanyError as error:
            assert isinstance(error, MediaError)


# Series.


def parquet(**columns: object) -> bytes:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a,b\n1,2,3\n4,5,6\n", MediaDecodeError), ("t;a\n2020-03-29;1,5\n", MediaDecodeError),
        ("a,b\n1\n1,2,3\n", MediaDecodeError), ("a,b\n1,\x002\n", MediaDecodeError), ("a,b\n", MediaError),
        ("a\n" + "9" * 400 + "\n", MediaDecodeError), ("a\n1+2j\n", MediaDecodeError), ('a\n"1\n' * 9, MediaDecodeError),
        ("t,a\n2020-01-02,1\n2020-01-01,2\n", MediaError), ("t,a\n2020-01-01,1\n2020-01-01,2\n", MediaError),
        ("t,a\n2020-01-01,1\n,2\n", MediaError), ("t,a\n2020-03-29 01:00+01:00,1\n2020-03-29 03:00+02:00,2\n", MediaError),
        ("a\n" + "1\n" * 1_000_001, MediaTooLargeError), (",".join(f"c{i}" for i in range(5000)) + "\n", MediaError),
    ],
    ids=lambda x: x[:20] if isinstance(x, str) else x.__name__,
)  # fmt: skip
def test_tables_that_would_be_misread(text, error):
    refused(TimeSeries, text.encode(), error)


def test_gaps_and_extremes_of_a_table_are_kept():
    values = TimeSeries.from_bytes(b"a,b,c\n1,,1e308\n,,-1e308\n3,,5\n").values
    np.testing.assert_array_equal(values, [[1, np.nan, 1e308], [np.nan, np.nan, -1e308], [3, np.nan, 5]])
    assert TimeSeries.from_bytes(b"t,a\r\n2020-01-01,1\r\n2020-01-02,2\r\n").times is not None


@pytest.mark.parametrize(
    "column", [[Decimal("1.5")], [[1.0]], [{"b": 1}], ["u"], [b"u"], [None], [True, None]], ids=repr
)
def test_columns_of_a_table_that_hold_no_numbers(column):
    refused(TimeSeries, parquet(x=[1.0] * len(column), a=column))


@needs_proc
@pytest.mark.slow
def test_a_small_table_cannot_unpack_to_gigabytes(tmp_path):
    data = parquet(**{f"c{i}": np.zeros(1_000_000) for i in range(64)})
    assert len(data) < 1_000_000
    (tmp_path / "x.parquet").write_bytes(data)
    code = """
        try:
            TimeSeries.open(sys.argv[1])
            sys.exit("it was decoded")
        except MediaError as error:
            assert error.code == "media_too_large", error
    """
    assert peak(code, str(tmp_path / "x.parquet")) < 60


def test_limits_of_a_table():
    for limits in (Limits(points=2), Limits(columns=1), Limits(cells=5)):
        with pytest.raises(MediaTooLargeError, match="3 x 2"):
            table_files.decode(b"a,b\n1,2\n3,4\n5,6\n", limits)


# Motion.


def npz(**changed: object) -> bytes:
    arrays = dict(np.load(io.BytesIO(CLIP.to_bytes("npz")), allow_pickle=False))
    out = io.BytesIO()
    np.savez(out, **{**arrays, **changed})
    return out.getvalue()


@pytest.mark.parametrize(
    "changed",
    [
        {"names": np.array([{}, 1], dtype=object)}, {"names": np.array(["hip"])}, {"fps": np.array("fast")},
        {"fps": np.array(np.nan)}, {"fps": np.array(0.0)}, {"fps": np.array([1.0, 2.0])}, {"up": np.array("w")},
        {"rotations": np.ones((3, 2, 4), complex)}, {"rotations": np.ones((3, 5, 4))}, {"rotations": np.ones(3)},
        {"rotations": np.array(1.0)}, {"rotations": np.zeros((3, 2, 4))}, {"rotations": np.full((3, 2, 4), np.nan)},
        {"rotations": np.array([["x"]])}, {"root": np.full((3, 3), np.inf)}, {"root": np.zeros((2, 3))},
        {"parents": np.array([-1, 1])}, {"parents": np.array([-1, 9])}, {"parents": np.array([0, 0])},
        {"parents": np.array([-1.5, np.nan])}, {"offsets": np.full((2, 3), np.nan)}, {"offsets": np.zeros((2, 2))},
    ],
    ids=lambda c: str(next(iter(c))),
)  # fmt: skip
def test_arrays_of_a_motion_that_do_not_fit(changed):
    refused(Motion, npz(**changed))


def test_arrays_in_another_order_are_the_same_motion():
    assert Motion.from_bytes(npz(rotations=np.asfortranarray(CLIP.rotations))) == CLIP


def test_a_shape_that_lies_and_an_archive_that_swells():
    whole, out = zipfile.ZipFile(io.BytesIO(CLIP.to_bytes("npz"))), io.BytesIO()
    with zipfile.ZipFile(out, "w") as lying:
        for name in whole.namelist():
            data = whole.read(name)
            if name == "rotations.npy":
                data = data.replace(b"(3, 2, 4)" + b" " * 12, b"(3000000000, 256, 4)" + b" ")
                assert b"3000000000" in data
            lying.writestr(name, data)
    refused(Motion, out.getvalue())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("rotations.npy", bytes(200 << 20))
    assert len(out.getvalue()) < 1_000_000
    refused(Motion, out.getvalue(), MediaTooLargeError)


def test_names_that_climb_out_of_an_archive_write_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../escape.npy", b"x")
        archive.writestr("/absolute.npy", b"x")
    refused(Motion, out.getvalue())
    assert not list(tmp_path.iterdir())
    assert not (tmp_path.parent / "escape.npy").exists()


def bvh(pattern: str, replacement: str) -> bytes:
    text = CLIP.to_bytes("bvh").decode()
    changed, count = re.subn(pattern, replacement, text, count=1, flags=re.DOTALL)
    assert count
    return changed.encode()


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("Frames: 3", "Frames: 1000000000"), ("Frames: 3", "Frames: 2"), ("Frames: 3", "Frames: -3"),
        ("Frames: 3", "Frames: x"), (r"Frame Time: \S+", "Frame Time: 0"), (r"Frame Time: \S+", "Frame Time: -1"),
        (r"Frame Time: \S+", "Frame Time: nan"), (r"Frame Time: \S+", "Frame Time: inf"), ("MOTION.*", ""),
        (r"(Frame Time: \S+\s+)\S+", r"\1nan"), (r"(Frame Time: \S+\s+)\S+", r"\g<1>0,5"), ("CHANNELS 6", "CHANNELS 1000000000"),
        ("CHANNELS 6", "CHANNELS -1"), ("OFFSET", "OFFSET nan"), (r"JOINT", "JOINT JOINT JOINT"), (r"\}", ""),
    ],
)  # fmt: skip
def test_bvh_files_that_lie(pattern, replacement):
    pytest.importorskip("pybvh")
    refused(Motion, bvh(pattern, replacement))


def test_bvh_with_other_line_ends_is_the_same():
    pytest.importorskip("pybvh")
    assert Motion.from_bytes(bvh("$", "").replace(b"\n", b"\r\n")) == Motion.from_bytes(bvh("$", ""))


def test_a_tree_ten_thousand_joints_deep_ends_in_an_error():
    pytest.importorskip("pybvh")
    joint = "JOINT j{}\n{{\nOFFSET 0 1 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    root = (
        "HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n"
    )
    deep = root + "".join(joint.format(i) for i in range(10_000)) + "End Site\n{\nOFFSET 0 0 0\n}\n" + "}\n" * 10_001
    refused(Motion, f"{deep}MOTION\nFrames: 1\nFrame Time: 0.1\n{'0 ' * 30_006}\n".encode(), MediaTooLargeError)


def test_an_empty_file_is_said_to_be_empty():
    for media in (Image, Audio, Video, Motion):
        refused(media, b"", EmptyMediaError)
