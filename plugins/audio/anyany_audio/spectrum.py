"""Sound -> rows of spectral frames, and back.

A row is 80 ms: 8 frames, 10 ms apart. Shapes: n rows, F frames per row, M mel bands, K frequency bins.
"""

from __future__ import annotations

import numpy as np
import torch
import torchaudio.functional as audio
from torch import Tensor

from anyany.errors import MediaError
from anyany.parts import Audio, Media

FRAMES = 8
MELS = 64
LOUDNESS = 0.08
"""Root mean square that every sound is brought to."""
FLOOR = 1e-3
MAX_SECONDS = 30.0


class Spectrum:
    """Analysis and synthesis at one sampling rate.

    Args:
        rate: Samples a second; a frame steps 10 ms and looks at 32 ms.
    """

    def __init__(self, rate: int) -> None:
        self.rate, self.hop, self.size = rate, rate // 100, rate * 32 // 1000
        self.row = FRAMES * self.hop
        self.bins = self.size // 2 + 1
        with torch.device("cpu"):  # they are no weights, and are needed where weights are only laid out, too
            self.window = torch.hann_window(self.size)
            self.filters = audio.melscale_fbanks(self.bins, 40.0, rate / 2, MELS, rate, norm="slaney")  # (K, M)

    @property
    def rows_per_second(self) -> float:
        """12.5 wherever the rate is a multiple of 100."""
        return self.rate / self.row

    def wave(self, media: Media) -> Tensor:
        """Mono samples ``(n * row,)`` of one loudness, padded to whole rows.

        Raises:
            MediaError: The part is not a sound, or longer than 30 s.
        """
        if not isinstance(media, Audio):
            raise MediaError(f"audio: expected an Audio, got {type(media).__name__}")
        if media.seconds > MAX_SECONDS:
            raise MediaError(f"audio: at most {MAX_SECONDS:g} s in one part, got {media.seconds:.1f} s; cut it")
        wave = audio.resample(torch.from_numpy(media.mono()), media.rate, self.rate)
        wave = wave * (LOUDNESS / wave.square().mean().sqrt().clamp(min=1e-4))
        rows = max(1, -(-len(wave) // self.row))
        return torch.nn.functional.pad(wave, (0, rows * self.row - len(wave)))

    def magnitudes(self, wave: Tensor) -> Tensor:
        """``(n * row,)`` -> ``(n * F, K)``."""
        complex_frames = torch.stft(
            wave, self.size, self.hop, window=self.window, pad_mode="constant", return_complex=True
        )
        return complex_frames.abs().T[:-1]

    def mels(self, magnitudes: Tensor) -> Tensor:
        """Log mel energies of about mean 0 and deviation 1, ``(n * F, M)``."""
        return ((magnitudes.square() @ self.filters + FLOOR**2).log() + 7.0) / 4.0

    def logs(self, magnitudes: Tensor) -> Tensor:
        """Log magnitudes of about mean 0 and deviation 1, ``(n * F, K)``."""
        return ((magnitudes + FLOOR).log() + 2.5) / 2.0

    def synthesise(self, logs: Tensor, steps: int = 48) -> Tensor:
        """Log magnitudes ``(n * F, K)`` -> samples ``(n * row,)``; phases by fast Griffin-Lim (Perraudin et al. 2013).

        Starts from phase zero, so that the same frames give the same sound.
        """
        magnitudes = ((logs * 2.0 - 2.5).exp() - FLOOR).clamp(min=0)
        frames = torch.cat([magnitudes, magnitudes[-1:]]).T[None]  # the last frame again, for its centre
        length = len(logs) * self.hop
        return audio.griffinlim(
            frames, self.window, self.size, self.hop, self.size, power=1.0, n_iter=steps, momentum=0.99,
            length=length, rand_init=False,
        )[0]  # fmt: skip


def windows(frames: Tensor, before: int, after: int) -> Tensor:
    """Rows with their neighbours: ``(n, ...)`` -> ``(n, before + 1 + after, ...)``; zeros beyond the ends."""
    pads = [torch.zeros_like(frames[:1]).expand(count, *frames.shape[1:]) for count in (before, after)]
    padded = torch.cat([pads[0], frames, pads[1]])
    return padded.unfold(0, before + 1 + after, 1).movedim(-1, 1)


def seconds(rows: int, rate: float) -> np.ndarray:
    """Coordinates ``(rows, 3)`` of rows that follow each other at ``rate`` rows a second."""
    values = np.zeros((rows, 3), np.float32)
    values[:, 0] = np.arange(rows) / rate
    return values


def example(seed: int, rate: int) -> Audio:
    """Half a second of two gliding tones in noise."""
    draw = np.random.default_rng(seed)
    t = np.arange(rate // 2) / rate
    low, high = draw.uniform(120, 300), draw.uniform(500, 1500)
    wave = 0.3 * np.sin(2 * np.pi * (low * t + 80 * t**2)) + 0.2 * np.sin(2 * np.pi * high * t)
    return Audio.from_array((wave + 0.01 * draw.normal(size=len(t))).astype(np.float32), rate)
