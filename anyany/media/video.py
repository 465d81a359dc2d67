"""Moving pictures, by PyAV. A file can never make the decoder open another file."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from anyany.errors import (
    EmptyMediaError,
    MediaDecodeError,
    MediaError,
    MediaTooLargeError,
    UnsupportedMediaError,
)
from anyany.media import soundtrack
from anyany.media.limits import DEFAULT, Limits
from anyany.media.packages import check_size, need

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,gif"
CODECS = frozenset(("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg", "gif"))
WRITERS = {"mp4": ("libx264", "yuv420p"), "webm": ("libvpx-vp9", "yuv420p"), "gif": ("gif", "rgb8")}

Decoded = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64], soundtrack.Sound | None, bool]


def decode(data: bytes, limits: Limits = DEFAULT) -> Decoded:
    """Bytes -> frames ``(T, H, W, 3)``, times ``(T,)`` from 0, sound or ``None``, and whether the file was cut off.

    The video stream with the most pixels is read. Of a longer video, ``limits.frames`` evenly spread
    frames are kept.

    Raises:
        MediaError: Not one of the containers or codecs, damaged, empty or too large.
    """
    check_size("video", data, limits)
    if not data:
        raise EmptyMediaError("video: expected a file, got no bytes")
    av = need("av", "av")
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
    try:
        container = av.open(io.BytesIO(data), container_options=options)
    except Exception:
        raise UnsupportedMediaError(
            "video: expected mp4, webm, mkv, avi or gif; the bytes are none, or damaged"
        ) from None
    with container:
        stream = _stream(container, limits)
        expected = _expected(container, stream, limits)
        frames, times, count, whole = _frames(container, stream, expected, limits)
        sound = None
        if container.streams.audio:
            sound = soundtrack.read(container, limits)
    if not frames:
        raise MediaDecodeError("video: no frame can be decoded; the file is damaged or cut off")
    start = times[0]
    if data[:4] == b"GIF8":  # nothing in its head tells a length, so the trailer decides
        whole = whole and bytes(data[-64:]).rstrip(b"\0").endswith(b";")
    truncated = not whole or (expected is not None and count < 0.995 * expected)
    if expected is not None and count < 0.9 * expected:
        raise MediaDecodeError(
            f"video: the header claims {expected} frames, {count} can be decoded; the file is cut off"
        )
    return np.stack(frames), np.asarray(times, np.float64) - start, sound, truncated


def _stream(container: Any, limits: Limits) -> Any:
    known = [s for s in container.streams.video if s.codec_context is not None]  # None: the codec itself is unknown
    if not known:
        raise UnsupportedMediaError("video: the file has no video stream that can be read")
    stream = max(known, key=lambda s: (s.width or 0) * (s.height or 0))
    name = stream.codec_context.name
    if name not in CODECS:
        raise UnsupportedMediaError(f"video: the codec {name!r} is not read; convert the file to h264")
    if stream.width * stream.height > limits.frame_pixels or not stream.width:
        raise MediaTooLargeError(
            f"video: at most {limits.frame_pixels} pixels a frame, got {stream.width}x{stream.height}"
        )
    return stream


def _expected(container: Any, stream: Any, limits: Limits) -> int | None:
    """Frames that the header promises."""
    if container.duration and container.duration / 1e6 > limits.video_seconds:
        raise MediaTooLargeError(
            f"video: at most {limits.video_seconds:g} s, got {container.duration / 1e6:.0f} s; cut it"
        )
    return int(stream.frames) or None


def _frames(
    container: Any, stream: Any, expected: int | None, limits: Limits
) -> tuple[list[Any], list[float], int, bool]:
    """Kept frames and times, frames in all, and whether they reach the end that the header states.

    Every k-th frame is kept, with k doubled whenever the limit is reached.
    """
    every = max(1, -(-(expected or 0) // limits.frames))
    frames: list[Any] = []
    times: list[float] = []
    count, end, stated = 0, 0.0, _stated_end(stream)
    try:
        for frame in container.decode(stream):
            end = max(end, frame.time or 0.0)
            if frame.time is None or (times and frame.time <= times[-1]):
                count += 1
                continue
            if frame.time > limits.video_seconds:
                raise MediaTooLargeError(f"video: at most {limits.video_seconds:g} s; cut it")
            if count % every == 0:
                if len(frames) == limits.frames:
                    frames, times, every = frames[::2], times[::2], every * 2
                if count % every == 0:
                    if (frame.width, frame.height) != (stream.width, stream.height):
                        raise MediaDecodeError("video: its frames change their size; convert the file")
                    frames.append(_upright(frame))
                    times.append(float(frame.time))
            count += 1
    except MediaError:
        raise
    except Exception:
        if not frames:
            raise MediaDecodeError("video: the file is damaged") from None
        return frames, times, count, False
    return frames, times, count, end >= 0.9 * stated


def _upright(frame: Any) -> npt.NDArray[np.uint8]:
    """Pixels ``(H, W, 3)`` as a player shows them: telephones store how they were held."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


def _stated_end(stream: Any) -> float:
    """Seconds that Matroska states for a stream, such as ``00:00:05.000000000``; 0 where nothing is stated."""
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return 0.0


def encode(frames: npt.NDArray[np.uint8], fps: float, format: str, sound: soundtrack.Sound | None = None) -> bytes:
    """``(T, H, W, 3)`` -> the bytes of a file. Small frames are enlarged in whole steps; sides become even.

    Sound is written to mp4 and webm, at 48 kHz and of at most two channels; a gif has none.

    Raises:
        UnsupportedMediaError: There is no such format, or it holds no such size or rate.
    """
    if format not in WRITERS:
        raise UnsupportedMediaError(f"video: cannot write {format!r}; choose one of {', '.join(WRITERS)}")
    try:
        return _encode(frames, fps, format, sound)
    except need("av", "av").FFmpegError:
        size = f"{frames.shape[2]}x{frames.shape[1]} at {fps:g} frames a second"
        raise UnsupportedMediaError(f"video: {format} cannot hold {size}; choose another format or rate") from None


def _encode(frames: npt.NDArray[np.uint8], fps: float, format: str, sound: soundtrack.Sound | None) -> bytes:
    av = need("av", "av")
    codec, pixel_format = WRITERS[format]
    zoom = max(1, 128 // max(frames.shape[1:3]))
    frames = frames.repeat(zoom, axis=1).repeat(zoom, axis=2)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), "edge")
    out = io.BytesIO()
    with av.open(out, "w", format=format) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        track = None if sound is None else soundtrack.open_writer(container, format, sound)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixel_format
        for frame in frames:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixel_format))
            )
        container.mux(stream.encode())
        if track is not None and sound is not None:
            soundtrack.write(container, track, sound)
    return out.getvalue()
