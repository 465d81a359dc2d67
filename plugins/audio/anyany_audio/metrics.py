"""How far a sound is from another, as the ear weighs frequencies."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anyany.parts import Audio
from anyany.plugin import Mean
from anyany_audio.spectrum import Spectrum

DECIBELS = 4.0 * 10 / math.log(10)
"""Of one unit of ``Spectrum.mels``, which are logarithms of energies over four."""


def log_mel(rate: int) -> Mean:
    """Mean absolute distance of log-mel energies in dB, that of the nearest reference.

    64 bands, every 10 ms, at ``rate``. Both sounds are mixed to mono and brought to one loudness; the shorter is
    filled up with silence.
    """
    spectrum = Spectrum(rate)

    def measure(answer: Audio, references: list[Audio], _: object) -> float:
        return min(_distance(spectrum, answer, reference) for reference in references)

    return Mean(measure)


@torch.inference_mode()
def _distance(spectrum: Spectrum, answer: Audio, reference: Audio) -> float:
    waves = [spectrum.wave(sound) for sound in (answer, reference)]
    length = max(len(wave) for wave in waves)
    a, b = (_mels(spectrum, wave, length) for wave in waves)
    return float((a - b).abs().mean()) * DECIBELS


def _mels(spectrum: Spectrum, wave: Tensor, length: int) -> Tensor:
    """``(frames, 64)`` of a wave that is filled up to ``length``."""
    return spectrum.mels(spectrum.magnitudes(torch.nn.functional.pad(wave, (0, length - len(wave)))))
