"""The audio plugin keeps the contract."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from anyany.errors import MediaError
from anyany.mini import files
from anyany.parts import Audio, Image
from anyany.plugin.registry import registry


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return registry().build(registry().encoder("audio")).eval()


@pytest.fixture
def codec():
    torch.manual_seed(0)
    return registry().build(registry().codec("audio")).eval()


def noise(count, rate=8000, channels=1):
    return Audio.from_array(np.random.default_rng(count).normal(size=(channels, count)).clip(-1, 1) * 0.3, rate)


def test_the_manifest_is_light():
    code = "import anyany_audio, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_declared_equals_produced_and_batch_equals_singles(encoder, codec):
    media = [noise(n) for n in (300, 5000, 9001)]
    for component, run in ((encoder, encoder), (codec, codec.encode)):
        batch = [component.prepare(m) for m in media]
        together = run(batch)
        assert together.shape[0] == sum(p.rows for p in batch)
        torch.testing.assert_close(together, torch.cat([run([p]) for p in batch]), rtol=1e-4, atol=1e-5)
        assert batch[1].coordinates.unit == "seconds"
        assert batch[1].coordinates.values[-1, 0] == pytest.approx((batch[1].rows - 1) * 0.08)


@pytest.mark.parametrize("count", [1, 639, 640, 641, 16000])
def test_any_length_goes_in_and_rows_follow_the_clock(encoder, codec, count):
    prepared = codec.prepare(noise(count))
    assert prepared.rows == encoder.prepare(noise(count)).rows == max(1, -(-count // 640))
    assert encoder([encoder.prepare(noise(count))]).isfinite().all()


@pytest.mark.skipif(not files.available("fsdd"), reason="needs the spoken digits; point ANYANY_DATA to them")
def test_the_shortest_and_the_longest_real_recording_pass(encoder, codec):
    recordings = sorted((r.audio for r in files.spoken()), key=lambda audio: audio.seconds)
    assert [recordings[i].seconds < limit for i, limit in ((0, 0.15), (-1, 1.3))] == [True, False]
    for audio in (recordings[0], recordings[-1]):
        prepared = codec.prepare(audio)
        made = codec.decode(codec.encode([prepared]))
        assert made.rate == audio.rate
        assert 0 <= made.seconds - audio.seconds < 0.08  # whole rows
        assert np.isfinite(made.samples).all()
        assert codec.prepare(made).rows == prepared.rows
        assert encoder([encoder.prepare(audio)]).shape == (prepared.rows, encoder.width)


def test_rate_channels_and_loudness_do_not_matter_much(codec):
    t = np.arange(48000) / 48000
    wave = np.sin(2 * np.pi * 440 * t)
    stereo = Audio.from_array(np.stack([wave, wave]) * 0.9, 48000)
    quiet = Audio.from_array(wave[::6] * 0.05, 8000)
    a, b = (codec.prepare(m).arrays["mels"] for m in (stereo, quiet))
    inner = slice(8, 88)  # the ends differ: one was filtered, the other cut
    assert a.shape == b.shape
    loud = a[inner] > a.mean()
    assert np.abs(a[inner] - b[inner])[loud].max() < 0.2


def test_the_spectrum_comes_back_as_sound(codec):
    wave = codec.spectrum.wave(codec.example(3))
    magnitudes = codec.spectrum.magnitudes(wave)
    again = codec.spectrum.synthesise(codec.spectrum.logs(magnitudes))
    assert again.shape == wave.shape
    difference = codec.spectrum.mels(codec.spectrum.magnitudes(again)) - codec.spectrum.mels(magnitudes)
    assert difference.abs().mean() < 0.15


@pytest.mark.parametrize("rows", [1, 2, 8, 10, 11, 25])
def test_a_stream_gives_what_decode_gives(codec, rows):
    codes = torch.randint(0, codec.latents.vocab, (rows, 4), generator=torch.Generator().manual_seed(rows))
    whole = codec.decode(codes)
    assert whole.samples.shape == (1, rows * 640)
    stream, chunks = codec.stream(), []
    for row in codes:
        chunks.append(stream.push(row[None]))
    chunks.append(stream.close())
    joined = np.concatenate([c.mono() for c in chunks if c is not None])
    np.testing.assert_array_equal(joined, whole.mono())
    assert stream.close() is None


def test_long_streams_hand_out_sound_early(codec):
    stream = codec.stream()
    early = stream.push(torch.zeros(12, 4, dtype=torch.long))
    assert early is not None
    assert early.samples.shape[1] == 8 * 640


def test_codes_are_valid(codec):
    codes = codec.encode([codec.prepare(codec.example(1))])
    assert codes.shape[1] == 4
    assert codes.min() >= 0
    assert codes.max() < codec.latents.vocab
    every = torch.arange(codec.latents.vocab)[:, None].expand(-1, 4)
    torch.testing.assert_close(codec.quantiser.codes(codec.quantiser.values(every)), every)
    rounded = codec.quantiser(torch.randn(50, codec.quantiser.dim) * 2)
    torch.testing.assert_close(codec.quantiser.values(codec.quantiser.codes(rounded)), rounded)


def test_gradients_reach_every_parameter(encoder, codec):
    encoder([encoder.prepare(encoder.example(0))]).square().sum().backward()
    sum(codec.loss([codec.prepare(codec.example(0))]).values()).backward()
    for component in (encoder, codec):
        assert all(p.grad is not None for p in component.parameters())


def test_wrong_input_is_refused(encoder, codec):
    with pytest.raises(MediaError, match="expected an Audio, got Image"):
        encoder.prepare(Image.from_array(np.zeros((4, 4))))
    with pytest.raises(MediaError, match=r"at most 30 s in one part, got 31\.0 s"):
        codec.prepare(Audio.from_array(np.zeros(31 * 8000), 8000))
