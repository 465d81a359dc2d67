"""Sound: wav, flac, mp3 and ogg, by soundfile."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaTooLargeError, UnsupportedMediaError
from anyany.media.limits import DEFAULT, Limits
from anyany.media.packages import check_size, need

MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
WRITERS: dict[str, tuple[int, Sequence[int]]] = {
    "wav": (1024, range(1, 768_001)),
    "flac": (8, range(1, 655_351)),
    "mp3": (2, MP3_RATES),
    "ogg": (255, range(1, 192_001)),  # libvorbis crashes the process above 200 000
}
"""Channels and rates that each format holds: libsndfile does not refuse all others."""
FORMATS = tuple(WRITERS)
BLOCK = 1 << 16


def decode(data: bytes, limits: Limits = DEFAULT) -> tuple[npt.NDArray[np.float32], int]:
    """Bytes -> samples ``(channels, N)`` in [-1, 1] and their rate.

    Reads block by block, so that a header that lies about the length costs nothing.

    Raises:
        MediaError: Not one of the formats, damaged, empty, too long, or not finite.
    """
    check_size("audio", data, limits)
    if not data:
        raise EmptyMediaError("audio: expected a file, got no bytes")
    soundfile = need("soundfile", "soundfile")
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except Exception:
        raise UnsupportedMediaError(
            f"audio: expected one of {', '.join(FORMATS)}; the bytes are none of them, or damaged"
        ) from None
    with file:
        _check_header(file, limits)
        samples = _read(file, limits)
    if samples.shape[1] == 0:
        raise EmptyMediaError("audio: expected at least one sample, got none")
    if not np.isfinite(samples).all():
        raise MediaDecodeError("audio: holds NaN or infinite samples; write it again")
    return samples.clip(-1, 1), int(file.samplerate)


def _check_header(file: Any, limits: Limits) -> None:
    low, high = limits.rates
    if not low <= file.samplerate <= high:
        raise UnsupportedMediaError(f"audio: expected a rate from {low} to {high}, got {file.samplerate}")
    if not 1 <= file.channels <= limits.channels:
        raise UnsupportedMediaError(f"audio: expected 1 to {limits.channels} channels, got {file.channels}")
    if file.frames < 2**40 and file.frames / file.samplerate > limits.seconds:
        seconds = file.frames / file.samplerate
        raise MediaTooLargeError(f"audio: at most {limits.seconds:g} s, got {seconds:.0f} s; cut it")


def _read(file: Any, limits: Limits) -> npt.NDArray[np.float32]:
    blocks, count = [], 0
    try:
        while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
            count += len(block)
            if count / file.samplerate > limits.seconds or count * file.channels * 4 > limits.audio_bytes:
                raise MediaTooLargeError(
                    f"audio: at most {limits.seconds:g} s and {limits.audio_bytes} bytes of samples"
                )
            blocks.append(block)
    except MediaTooLargeError:
        raise
    except Exception:
        raise MediaDecodeError("audio: the file is damaged; write it again") from None
    return np.concatenate(blocks).T if blocks else np.zeros((file.channels, 0), np.float32)


def encode(samples: npt.NDArray[np.float32], rate: int, format: str) -> bytes:
    """``(channels, N)`` -> the bytes of a file; wav and flac hold 16 bits.

    Raises:
        UnsupportedMediaError: There is no such format, or it holds no such rate or so many channels.
    """
    if format not in WRITERS:
        raise UnsupportedMediaError(f"audio: cannot write {format!r}; choose one of {', '.join(FORMATS)}")
    channels, rates = WRITERS[format]
    if len(samples) > channels or rate not in rates:
        raise UnsupportedMediaError(
            f"audio: {format} holds at most {channels} channels at a rate {_said(rates)}, "
            f"got {len(samples)} at {rate}; choose wav"
        )
    out = io.BytesIO()
    subtype = "PCM_16" if format in ("wav", "flac") else None
    need("soundfile", "soundfile").write(out, samples.T, rate, format=format.upper(), subtype=subtype)
    return out.getvalue()


def _said(rates: Sequence[int]) -> str:
    return f"up to {rates[-1]}" if isinstance(rates, range) else f"among {', '.join(map(str, rates))}"
