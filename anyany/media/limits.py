"""How much may be decoded. Limits hold on decoded size, whatever a header claims."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper limits; pass another instance where a decoder takes ``limits``.

    Attributes:
        bytes: Of a file.
        pixels: Of a picture, and ``side`` of its longer side.
        frames: Animated or sampled frames.
        frame_pixels: Of one frame of a video.
        seconds: Of sound, and ``audio_bytes`` of its decoded samples.
        channels: Of sound.
        video_seconds: Of a video.
        points: Rows of a series, ``columns``, and ``cells``: both at once.
        motion_frames: Frames of a motion, and ``joints``.
    """

    bytes: int = 32 << 20
    pixels: int = 40_000_000
    side: int = 16_384
    frames: int = 32
    frame_pixels: int = 8_000_000
    seconds: float = 600.0
    audio_bytes: int = 256 << 20
    rates: tuple[int, int] = (8_000, 192_000)
    channels: int = 8
    video_seconds: float = 300.0
    points: int = 1_000_000
    columns: int = 4_096
    cells: int = 32 << 20
    motion_frames: int = 36_000
    joints: int = 256


DEFAULT = Limits()
