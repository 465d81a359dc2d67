"""Files made to harm, of every kind: each ends in a typed error."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hostile import refused

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaError, MediaTooLargeError
from anyany.parts import Audio, Image, Motion, Skeleton, TimeSeries, Video

pytest.importorskip("av")
pytest.importorskip("PIL.Image")
pytest.importorskip("soundfile")
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


def test_an_empty_file_is_said_to_be_empty():
    for media in MEDIA:
        refused(media, b"", EmptyMediaError)
