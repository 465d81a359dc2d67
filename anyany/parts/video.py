"""Moving pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaError
from anyany.parts.audio import Audio
from anyany.parts.base import Media, colours, data_tag, number, numbers

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(frozen=True, eq=False, repr=False)
class Video(Media):
    """Frames ``(T, H, W, 3)`` uint8 at ``times (T,)`` in seconds, perhaps with sound.

    ``truncated`` says that the file held fewer frames than its header claimed.
    """

    modality: ClassVar[str] = "video"
    formats: ClassVar[tuple[str, ...]] = ("mp4", "webm", "gif")
    frames: npt.NDArray[np.uint8]
    times: npt.NDArray[np.float64]
    audio: Audio | None = None
    truncated: bool = False

    def __post_init__(self) -> None:
        frames, times = numbers("video", self.frames), numbers("video", self.times, np.float64)
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise MediaError(f"video: expected frames (T, H, W, 3) uint8, got {frames.shape} {frames.dtype}")
        if frames.size == 0:
            raise EmptyMediaError("video: expected at least one frame, got none")
        if times.shape != frames.shape[:1] or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise MediaError(f"video: expected {len(frames)} rising times in seconds, got {times.shape}")
        if self.audio is not None and not isinstance(self.audio, Audio):
            raise MediaError(f"video: expected its sound as Audio or None, got {type(self.audio).__name__}")
        self._freeze(frames=frames, times=times)

    @classmethod
    def from_frames(cls, frames: npt.ArrayLike, fps: float, audio: Audio | None = None) -> Self:
        """From ``(T, H, W)`` or ``(T, H, W, 3)``, integers 0..255 or floats 0..1."""
        values, fps = colours("video", frames), number("video", "fps", fps, 1e-6, 1000)
        if values.ndim == 3:
            values = values[..., None].repeat(3, axis=3)
        return cls(values, np.arange(len(values)) / fps, audio)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode mp4, webm or gif and their kin: the best video stream, at most 32 frames of it."""
        from anyany.media.video import decode

        frames, times, sound, truncated = decode(data)
        return cls(frames, times, None if sound is None else Audio(*sound), truncated)

    def to_bytes(self, format: str | None = None) -> bytes:
        """Encode as mp4 (h264), webm (vp9) or gif; its sound goes into mp4 and webm."""
        from anyany.media.video import encode

        sound = None if self.audio is None else (self.audio.samples, self.audio.rate)
        return encode(self.frames, self.fps, format or "mp4", sound)

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        return 1.0 if len(self.times) < 2 else float((len(self.times) - 1) / (self.times[-1] - self.times[0]))

    @property
    def seconds(self) -> float:
        """Length, the last frame included."""
        return len(self.frames) / self.fps

    def picture(self) -> PILImage:
        """A strip of up to eight frames."""
        from anyany.media.drawing import strip

        return strip(self.frames)

    def _repr_html_(self) -> str:
        return data_tag("video", self.to_bytes("mp4"), "video/mp4", 'controls loop muted width="240"')

    def __repr__(self) -> str:
        height, width = self.frames.shape[1:3]
        return f"Video({len(self.frames)} frames {width}x{height}, {self.fps:.3g} fps)"
