"""Films that point at other files, use odd codecs, change, lie, or are damaged."""

from __future__ import annotations

import io
import os
import random
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hostile import needs_proc, peak, refused

from anyany.errors import MediaDecodeError, MediaError, MediaTooLargeError, UnsupportedMediaError
from anyany.media import video as video_files
from anyany.media.limits import Limits
from anyany.parts import Video

av = pytest.importorskip("av")
DRAW = np.random.default_rng(0)
FILM = Video.from_frames(DRAW.integers(0, 255, (12, 48, 64, 3), np.uint8), 12.0)


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


@pytest.mark.parametrize(("codec", "container"), [("ffv1", "matroska"), ("magicyuv", "avi"), ("ffv1", "avi")])
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
        with suppress(MediaError):  # refusing it is as good as believing the stream itself
            assert Video.from_bytes(forged).frames.shape[1:3] == (48, 64)


@pytest.mark.parametrize("format", ["webm", "matroska", "gif"])
def test_a_film_without_a_count_of_frames_tells_that_it_was_cut_off(format):
    data = FILM.to_bytes("gif") if format == "gif" else film(64, 48, 60, codec="libvpx-vp9", to=format)
    assert not Video.from_bytes(data).truncated
    cut = Video.from_bytes(data[: len(data) * 2 // 3])
    assert cut.truncated
    assert len(cut.frames) > 1


def test_a_film_cut_a_little_is_marked_and_cut_in_the_middle_is_refused():
    plain = film(64, 48, 60, to="mp4")
    at = plain.index(b"mdat") - 4  # its head lies behind the frames: cut some off, and put zeros in their place
    size = struct.unpack(">I", plain[at : at + 4])[0]
    for share, error in ((0.97, None), (0.5, MediaDecodeError)):
        lost = int(size * (1 - share))
        damaged = plain[: at + size - lost] + bytes(lost) + plain[at + size :]
        if error is None:
            assert Video.from_bytes(damaged).truncated
        else:
            refused(Video, damaged, error)


@pytest.mark.parametrize(
    ("turned", "matrix"),
    [(0, (1, 0, 0, 1, 0, 0)), (1, (0, -1, 1, 0, 0, 128)), (2, (-1, 0, 0, -1, 128, 64)), (3, (0, 1, -1, 0, 64, 0))],
)
def test_a_film_is_read_as_the_telephone_was_held(turned, matrix):
    frames = np.zeros((6, 64, 128, 3), np.uint8)
    frames[:, :30, :50] = 255
    data = Video.from_frames(frames, 6.0).to_bytes("mp4")
    one = 1 << 16
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    a, b, c, d, x, y = (value * one for value in matrix)
    head, tail = data.rsplit(upright, 1)  # the track's; the film has one of its own before it
    data = head + struct.pack(">9i", a, b, 0, c, d, 0, x, y, 1 << 30) + tail
    seen = Video.from_bytes(data).frames
    expected = np.rot90(frames, turned, axes=(1, 2))
    assert seen.shape == expected.shape
    assert np.abs(seen.astype(int) - expected).mean() < 10


def test_a_rate_that_a_format_cannot_hold_is_named():
    with pytest.raises(UnsupportedMediaError, match="gif cannot hold 64x48 at 1000 frames a second"):
        Video.from_frames(FILM.frames, 1000.0).to_bytes("gif")


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


DATA = Path(os.environ.get("ANYANY_DATA", Path(__file__).parents[3] / "shared" / "data"))
NASA = DATA / "media" / "nasa_13013.mp4"


@pytest.mark.slow
@pytest.mark.skipif(not NASA.exists(), reason="the film is neither in $ANYANY_DATA nor beside the checkout")
def test_a_real_film_with_six_streams():
    data = NASA.read_bytes()
    whole = Video.from_bytes(data)
    assert whole.frames.shape[1:] == (270, 480, 3)  # of two video streams the one with more pixels
    assert whole.audio is not None
    refused(Video, data[: len(data) // 2])
    for seed in range(150):
        chance, bad = random.Random(seed), bytearray(data)
        for _ in range(chance.choice([1, 5, 50, 500])):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        with suppress(MediaError):
            Video.from_bytes(bytes(bad))


@pytest.mark.parametrize(
    ("name", "frames", "height", "width", "last"),
    [("av1_video.mkv", 32, 360, 640, 4.96), ("h264_10bits.mp4", 30, 200, 200, 0.967),
     ("h265_video.mp4", 10, 128, 128, 0.9), ("h265_10bits.mp4", 30, 200, 200, 0.967),
     ("bt709_full_range.mp4", 30, 720, 1280, 0.967)],
)  # fmt: skip
def test_real_films_of_every_codec(name, frames, height, width, last):
    """AV1, ten bits and colours of full range; the first frame against a conversion by planes."""
    path = DATA / "media" / name
    if not path.exists():
        pytest.skip("the films are neither in $ANYANY_DATA nor beside the checkout")
    film = Video.open(path)
    assert film.frames.shape == (frames, height, width, 3)
    assert film.times[0] == 0
    assert last - 0.2 <= film.times[-1] <= last + 0.02
    assert not film.truncated
    with av.open(str(path)) as container:
        planes = next(container.decode(video=0)).to_ndarray(format="gbrp")
    assert np.abs(film.frames[0].astype(int) - planes).mean() < 4
