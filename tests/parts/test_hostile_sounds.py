"""Sound that lies about its length, its rate or its channels, or is not a number."""

from __future__ import annotations

import io
import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hostile import needs_proc, peak, refused

from anyany.errors import MediaDecodeError, MediaError, MediaTooLargeError, UnsupportedMediaError
from anyany.media import audio as audio_files
from anyany.media.limits import Limits
from anyany.parts import Audio

soundfile = pytest.importorskip("soundfile")
TONE = Audio.from_array(np.sin(np.arange(9000) / 5).astype(np.float32) * 0.5, 8000)


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
    ids=["rate 0", "rate 4e9", "rate 7999", "192001", "no channel", "9 channels", "255 channels", "empty", "0 bits"],
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
        with suppress(MediaError):  # refusing it is as good
            assert Audio.from_bytes(data).rate == 8000


@pytest.mark.parametrize(
    ("format", "rate", "channels"),
    [("ogg", 300_000, 1), ("ogg", 200_001, 1), ("mp3", 11_000, 1), ("mp3", 8_000, 3), ("flac", 8_000, 9),
     ("flac", 700_000, 1), ("wav", 8_000, 1025)],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_refused_before_it_is_written(format, rate, channels):
    """The library crashes the process on some of these."""
    sound = Audio(np.zeros((channels, 100), np.float32), rate)
    with pytest.raises(UnsupportedMediaError, match=f"{format} holds at most .* got {channels} at {rate}"):
        sound.to_bytes(format)


def test_the_highest_rates_that_are_read_can_be_written():
    for format in ("wav", "flac", "ogg"):
        assert Audio.from_bytes(Audio.from_array(np.zeros(100), 192_000).to_bytes(format)).rate == 192_000


DATA = Path(os.environ.get("ANYANY_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("sine_mono_s16", 16_000),
        ("sine_mono_s32", 16_000),
        ("sine_mono_s32_44100", 44_100),
        ("sine_mono_s32_8000", 8_000),
    ],
)
def test_real_sounds_of_every_width_and_rate(name, rate):
    path = DATA / "media" / f"{name}.wav"
    if not path.exists():
        pytest.skip("the sounds are neither in $ANYANY_DATA nor beside the checkout")
    sound = Audio.open(path)
    assert sound.rate == rate
    assert sound.seconds == pytest.approx(4.0, abs=0.01)
    power = np.abs(np.fft.rfft(sound.mono()))
    assert power.max() ** 2 > 0.9 * (power**2).sum() / 2  # one tone
