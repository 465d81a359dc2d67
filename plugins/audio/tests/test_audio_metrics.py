"""The log-mel distance: by torchaudio's own spectrogram, and what it must not hear."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio

from anyany.parts import Audio
from anyany.plugin.registry import registry

RATE = 8000


@pytest.fixture
def metric():
    (spec,) = (s for s in registry().metrics if s.id == "audio/log-mel")
    assert not spec.higher_is_better
    return registry().build(spec)


def noise(seed, seconds=0.5, rate=RATE):
    return Audio.from_array(np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate)).astype(np.float32), rate)


def slow(a, b):
    """With torchaudio's spectrogram, sample by sample of the definition."""
    mel = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=256, hop_length=80, f_min=40.0, n_mels=64, norm="slaney", pad_mode="constant"
    )
    logs = []
    for sound in (a, b):
        wave = torch.from_numpy(sound.mono())
        wave = torch.nn.functional.pad(wave * 0.08 / wave.square().mean().sqrt(), (0, -len(wave) % 640))
        logs.append(10 * torch.log10(mel(wave)[:, :-1] + 1e-6))
    return float((logs[0] - logs[1]).abs().mean())


@pytest.mark.parametrize("seconds", [0.4, 0.53])
def test_it_is_the_distance_of_mel_spectrograms(metric, seconds):
    a, b = noise(0, seconds), noise(1, seconds)
    assert metric.measure(a, [b], ()) == pytest.approx(slow(a, b), rel=1e-4)


def test_loudness_does_not_count_and_the_nearest_reference_does(metric):
    a = noise(0)
    soft = Audio.from_array(a.samples[0] * 0.3, RATE)
    assert metric.measure(a, [a], ()) == 0.0
    assert metric.measure(soft, [noise(2), a], ()) == pytest.approx(0.0, abs=1e-3)


def test_what_is_missing_counts_as_silence(metric):
    whole = noise(0, 0.8)
    half = Audio.from_array(whole.samples[0, : len(whole.samples[0]) // 2], RATE)
    assert metric.measure(half, [whole], ()) > 10
    assert metric.measure(half, [whole], ()) == pytest.approx(metric.measure(whole, [half], ()))


def test_further_is_more(metric):
    a, b = noise(0), noise(1)
    mixed = [Audio.from_array(a.samples[0] * (1 - s) + b.samples[0] * s, RATE) for s in (0.0, 0.1, 0.4, 1.0)]
    distances = [metric.measure(m, [a], ()) for m in mixed]
    assert distances == sorted(distances)
