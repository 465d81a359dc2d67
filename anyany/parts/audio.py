"""Sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaError
from anyany.parts.base import Media, data_tag, image_tag, number, numbers

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(frozen=True, eq=False, repr=False)
class Audio(Media):
    """Sound: ``samples (channels, N)`` float32 in [-1, 1] at ``rate`` samples a second."""

    modality: ClassVar[str] = "audio"
    formats: ClassVar[tuple[str, ...]] = ("wav", "flac", "mp3", "ogg")
    samples: npt.NDArray[np.float32]
    rate: int

    def __post_init__(self) -> None:
        samples = numbers("audio", self.samples, np.float32)
        if samples.ndim != 2:
            raise MediaError(f"audio: expected samples (channels, N), got {samples.shape}; use Audio.from_array")
        if samples.size == 0:
            raise EmptyMediaError("audio: expected at least one sample, got none")
        if not np.isfinite(samples).all():
            raise MediaError("audio: expected finite samples, got NaN or infinity")
        rate = number("audio", "a rate", self.rate, 1, 768_000)
        self._freeze(samples=samples.clip(-1, 1), rate=int(rate))

    @classmethod
    def from_array(cls, array: npt.ArrayLike, rate: int) -> Self:
        """From ``(N,)`` or ``(channels, N)``; integers are scaled by the range of their type."""
        values = numbers("audio", array)
        if values.dtype.kind in "iu":
            limit = float(np.iinfo(values.dtype).max)
            values = values.astype(np.float32) / limit * (2 if values.dtype.kind == "u" else 1) - (
                values.dtype.kind == "u"
            )
        return cls(np.atleast_2d(values), rate)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode wav, flac, mp3 or ogg."""
        from anyany.media.audio import decode

        return cls(*decode(data))

    def to_bytes(self, format: str | None = None) -> bytes:
        """Encode as wav, flac, mp3 or ogg."""
        from anyany.media.audio import encode

        return encode(self.samples, self.rate, format or "wav")

    def mono(self) -> npt.NDArray[np.float32]:
        """All channels averaged, ``(N,)``."""
        return np.asarray(self.samples.mean(axis=0), np.float32)

    @property
    def seconds(self) -> float:
        """Length."""
        return self.samples.shape[1] / self.rate

    def picture(self) -> PILImage:
        """The waveform above its spectrogram."""
        from anyany.media.drawing import sound

        return sound(self.mono(), self.rate)

    def _repr_html_(self) -> str:
        player = data_tag("audio", self.to_bytes("wav"), "audio/wav", "controls")
        return f"<div>{image_tag(self.picture(), repr(self))}<br>{player}</div>"

    def __repr__(self) -> str:
        return f"Audio({self.seconds:.2f} s, {self.rate} Hz, {self.samples.shape[0]} ch)"
