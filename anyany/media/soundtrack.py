"""The sound of a film, by PyAV.

Shapes: C channels, N samples.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from anyany.errors import MediaDecodeError, MediaTooLargeError
from anyany.media.limits import Limits
from anyany.media.packages import need

CODECS = frozenset(("aac", "mp3", "mp3float", "opus", "libopus", "vorbis", "flac", "pcm_s16le", "ac3", "mp2", "alac"))
WRITERS = {"mp4": ("aac", 48_000), "webm": ("libopus", 48_000)}
"""Codec and rate by container; a gif is silent."""

Sound = tuple[npt.NDArray[np.float32], int]


def read(container: Any, limits: Limits) -> Sound | None:
    """The first sound stream whose codec is on the list, from its start: samples ``(C, N)`` in [-1, 1] and their rate.

    Raises:
        MediaError: The sound is damaged, or longer than the limits allow.
    """
    streams = [s for s in container.streams.audio if s.codec_context is not None and s.codec_context.name in CODECS]
    if not streams:
        return None
    stream = streams[0]
    rate = int(stream.rate)
    resampler = need("av", "av").AudioResampler(format="fltp", rate=rate)
    blocks, count = [], 0
    try:
        container.seek(0)
        for frame in container.decode(stream):
            for block in resampler.resample(frame):
                samples = block.to_ndarray()
                count += samples.shape[1]
                if count > rate * limits.seconds or count * len(samples) * 4 > limits.audio_bytes:
                    raise MediaTooLargeError(f"video: at most {limits.seconds:g} s of sound; cut the film")
                blocks.append(samples)
    except MediaTooLargeError:
        raise
    except Exception:
        raise MediaDecodeError("video: its sound is damaged; write the film again, or without sound") from None
    if not blocks:
        return None
    return np.concatenate(blocks, axis=1).clip(-1, 1), rate


def open_writer(container: Any, format: str, sound: Sound) -> Any:
    """A sound stream of the container, or ``None`` where the format is silent."""
    if format not in WRITERS:
        return None
    codec, rate = WRITERS[format]
    return container.add_stream(codec, rate=rate, layout=_layout(sound))


def _layout(sound: Sound) -> str:
    return "mono" if len(sound[0]) == 1 else "stereo"


def write(container: Any, stream: Any, sound: Sound) -> None:
    """Encode the whole sound into its stream."""
    av = need("av", "av")
    samples, rate = sound
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:2]), format="fltp", layout=_layout(sound))
    frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    for packet in stream.encode(frame):
        container.mux(packet)
    for packet in stream.encode(None):
        container.mux(packet)
