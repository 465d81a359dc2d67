"""Media to files and back, and files that are not what they claim to be."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

from anyany.errors import EmptyMediaError, MediaError, MediaTooLargeError, UnsupportedMediaError
from anyany.parts import Audio, Image, Motion, Skeleton, TimeSeries, Video

PIXELS = np.random.default_rng(0).integers(0, 255, (30, 20, 3), np.uint8)


def walker(frames: int = 5) -> Motion:
    skeleton = Skeleton(
        ("hip", "knee", "foot"), np.array([-1, 0, 1]), np.array([[0, 1, 0], [0, -0.5, 0], [0, -0.5, 0]])
    )
    return Motion(np.tile([1.0, 0, 0, 0], (frames, 3, 1)), np.zeros((frames, 3)), skeleton, 15.0)


def examples() -> list:
    tone = np.sin(np.arange(4000) / 5).astype(np.float32) * 0.5
    frames = np.stack([np.roll(PIXELS, i, axis=1) for i in range(6)])
    return [
        Image(PIXELS), Audio.from_array(tone, 8000), Video.from_frames(frames, 5.0),
        TimeSeries.from_array([[1.0, 2.0], [np.nan, 3.0], [4.0, 5.0]]), walker(),
    ]  # fmt: skip


@pytest.mark.parametrize("media", examples(), ids=lambda m: m.modality)
def test_every_format_is_written_and_read(media, tmp_path):
    for suffix in media.formats:
        again = type(media).open(media.save(tmp_path / f"x.{suffix}"))
        assert again.modality == media.modality
    assert media.picture().width > 0
    assert "data:" in media._repr_html_()


def test_lossless_formats_keep_everything(tmp_path):
    image, _, _, series, motion = examples()
    assert Image.open(image.save(tmp_path / "x.png")) == image
    np.testing.assert_array_equal(TimeSeries.open(series.save(tmp_path / "x.parquet")).values, series.values)
    assert Motion.open(motion.save(tmp_path / "x.npz")) == motion


def test_times_of_a_csv_file_are_read_with_their_frequency():
    series = TimeSeries.from_bytes(b"time,load\n2026-01-01,1\n2026-01-02,2\n2026-01-03,4\n")
    assert (series.columns, series.frequency) == (("load",), "D")
    assert series.times[1] == np.datetime64("2026-01-02")
    uneven = TimeSeries.from_bytes(b"time,load\n2026-01-01,1\n2026-01-02,2\n2026-01-07,4\n")
    assert uneven.frequency is None


def test_key_knows_the_shape():
    assert Image(PIXELS).key() != Image(PIXELS.reshape(20, 30, 3)).key()


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("media", "data", "error"),
    [
        (Image, png(20000, 20000), MediaTooLargeError),
        (Image, png(12000, 12000), MediaTooLargeError),
        (Image, png(1, 60000), MediaTooLargeError),
        (Image, b"%!PS-Adobe-3.0 EPSF-3.0", UnsupportedMediaError),
        (Image, b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedMediaError),
        (Image, b"", EmptyMediaError),
        (Image, Image(PIXELS).to_bytes()[:60], MediaError),
        (Audio, b"RIFF" + bytes(40), MediaError),
        (Audio, b"", EmptyMediaError),
        (Video, b"ffconcat version 1.0\nfile canary.mp4\n", UnsupportedMediaError),
        (Video, b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", UnsupportedMediaError),
        (Video, b"", EmptyMediaError),
        (TimeSeries, b"a,b\nx,y\n", MediaError),
        (Motion, b"PK\x03\x04broken", MediaError),
        (Motion, b"HIERARCHY", MediaError),
        (Motion, b"solid", UnsupportedMediaError),
    ],
)
def test_bad_files_raise_typed_errors(media, data, error):
    with pytest.raises(error) as caught:
        media.from_bytes(data)
    assert "object at" not in str(caught.value)


def test_an_uploaded_script_opens_no_other_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples()[2].save(tmp_path / "canary.mp4")
    with pytest.raises(UnsupportedMediaError):
        Video.from_bytes(b"ffconcat version 1.0\nfile canary.mp4\n")


def test_a_long_silence_is_refused_by_its_length():
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, np.zeros(8000 * 700, np.int16), 8000, format="FLAC")
    with pytest.raises(MediaTooLargeError, match="600 s"):
        Audio.from_bytes(out.getvalue())


def test_forward_kinematics_of_a_bent_knee():
    motion = walker(1)
    bent = motion.rotations.copy()
    bent[0, 1] = [np.sqrt(0.5), np.sqrt(0.5), 0, 0]  # a quarter turn about x
    places = Motion(bent, motion.root, motion.skeleton, 15.0).positions()
    np.testing.assert_allclose(places[0], [[0, 0, 0], [0, -0.5, 0], [0, -0.5, -0.5]], atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Image(np.zeros((0, 4, 3), np.uint8)),
        lambda: Image.from_array(np.array([[np.nan]])),
        lambda: Audio.from_array([0.0, np.inf], 8000),
        lambda: Audio.from_array([0.0], 0),
        lambda: Video(np.zeros((2, 4, 4, 3), np.uint8), np.array([0.0, 0.0])),
        lambda: TimeSeries(np.zeros((2, 1)), ("a",), np.array(["2020-01-02", "2020-01-01"], "datetime64[ns]")),
        lambda: Motion(np.zeros((1, 3, 4)), np.zeros((1, 3)), walker().skeleton, 15.0),
    ],
)
def test_bad_arrays_raise_typed_errors(make):
    with pytest.raises(MediaError):
        make()


@pytest.mark.parametrize("format", ["mp4", "webm"])
@pytest.mark.parametrize(("channels", "rate"), [(1, 8000), (2, 44100)])
def test_sound_travels_with_a_film(format, channels, rate):
    t = np.arange(rate) / rate
    tone = Audio.from_array(np.stack([0.5 * np.sin(2 * np.pi * 440 * t)] * channels).astype(np.float32), rate)
    film = Video.from_frames(np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3)), 8.0, tone)
    again = Video.from_bytes(film.to_bytes(format))
    assert again.audio.samples.shape[0] == channels
    assert again.audio.seconds == pytest.approx(1.0, abs=0.1)
    spectrum = np.abs(np.fft.rfft(again.audio.mono()))
    assert np.argmax(spectrum) * again.audio.rate / again.audio.samples.shape[1] == pytest.approx(440, abs=5)


def test_a_gif_is_silent():
    film = Video.from_frames(np.zeros((3, 8, 8)), 8.0, Audio.from_array(np.zeros(800), 8000))
    assert Video.from_bytes(film.to_bytes("gif")).audio is None


@pytest.mark.parametrize("media", [Image, Video])
def test_colours_on_another_scale_are_refused_and_do_not_come_out_white(media):
    make = Image.from_array if media is Image else lambda x: Video.from_frames(x[None], 1.0)
    for values in (
        np.full((4, 4), 128.0), np.full((4, 4), -1.0), np.full((4, 4), 60_000, np.uint16), np.full((4, 4), -1),
    ):  # fmt: skip
        with pytest.raises(MediaError, match="scale them, or convert them to uint8"):
            make(values)
    kept = make(np.array([[-0.01, 0.0, 0.5, 1.0, 1.02]]))
    assert (kept.pixels if media is Image else kept.frames).reshape(5, 3)[:, 0].tolist() == [0, 0, 128, 255, 255]
    assert make(np.array([[True, False]])) == make(np.array([[255, 0]]))


def test_pillow_pictures_are_read_as_their_files_are():
    pillow = pytest.importorskip("PIL.Image")
    wide = pillow.fromarray((np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8))
    assert Image.from_pil(wide).pixels.max() == round(63_000 / 257)
    clear = pillow.fromarray(np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8))
    assert Image.from_pil(clear).pixels[0].tolist() == [[255] * 3, [10, 20, 30]]
    for none in ("x", None, PIXELS, pillow.new("F", (4, 4))):
        with pytest.raises(MediaError, match="image: "):
            Image.from_pil(none)


@pytest.mark.parametrize("format", ["jpeg", "webp", "gif"])
def test_a_side_that_a_format_cannot_hold_is_named(format):
    with pytest.raises(UnsupportedMediaError, match=f"{format} holds .* got 1x70000; use png"):
        Image(np.zeros((70_000, 1, 3), np.uint8)).to_bytes(format)


def test_what_cannot_be_written_is_a_typed_error(tmp_path):
    for path in (tmp_path / "missing" / "x.png", tmp_path / "x\0.png", tmp_path / f"{'x' * 300}.png"):
        with pytest.raises(MediaError, match="image: cannot write"):
            Image(PIXELS).save(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("media", [Image, Audio, Video, TimeSeries, Motion])
def test_what_is_neither_path_nor_bytes_is_a_typed_error(media):
    for none in (None, 3, io.BytesIO(b"x")):
        with pytest.raises(MediaError, match=f"{media.modality}: expected a path"):
            media.open(none)
        with pytest.raises(MediaError, match=f"{media.modality}: expected the bytes of a file"):
            media.from_bytes(none)


def test_bands_are_kept_as_columns(tmp_path):
    values = np.arange(6.0).reshape(3, 2)
    bands = np.stack([values - 1, values, values + 1])
    series = TimeSeries(values, ("a", "b"), None, "h", levels=(0.1, 0.5, 0.9), bands=bands)
    again = TimeSeries.open(series.with_bands().save(tmp_path / "forecast.csv"))
    assert again.columns == ("a", "b", "a@0.1", "b@0.1", "a@0.5", "b@0.5", "a@0.9", "b@0.9")
    np.testing.assert_array_equal(again.values[:, 6:], series.band(0.9))
    plain = TimeSeries(values)
    assert plain.with_bands() is plain
