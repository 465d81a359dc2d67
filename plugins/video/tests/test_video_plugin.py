"""The video plugin keeps the contract."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from anyany.errors import MediaError
from anyany.parts import Image, Video
from anyany.plugin.registry import registry


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return registry().build(registry().encoder("video")).eval()


@pytest.fixture
def codec():
    torch.manual_seed(0)
    return registry().build(registry().codec("video")).eval()


def test_the_manifest_is_light():
    code = "import anyany_video, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_declared_equals_produced_and_batch_equals_singles(encoder, codec):
    media = [encoder.example(s) for s in range(3)]
    for component, run in ((encoder, encoder), (codec, codec.encode)):
        batch = [component.prepare(m) for m in media]
        together = run(batch)
        assert together.shape[0] == sum(p.rows for p in batch)
        torch.testing.assert_close(together, torch.cat([run([p]) for p in batch]), rtol=1e-4, atol=1e-5)
        assert batch[0].coordinates.values.shape == (batch[0].rows, 3)


def test_codes_are_valid_and_decode_to_a_clip(codec):
    codes = codec.encode([codec.prepare(codec.example(1))])
    assert codes.min() >= 0
    assert codes.max() < codec.latents.vocab
    assert isinstance(codec.decode(codes), Video)
    assert isinstance(codec.decode(codes[:1]), Video)
    every = torch.arange(codec.latents.vocab)
    torch.testing.assert_close(codec.quantiser.codes(codec.quantiser.values(every)), every)


def test_gradients_reach_every_parameter(encoder, codec):
    encoder([encoder.prepare(encoder.example(0))]).square().sum().backward()
    sum(codec.loss([codec.prepare(codec.example(0))]).values()).backward()
    for component in (encoder, codec):
        assert all(p.grad is not None for p in component.parameters())


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 60, 20), (40, 13, 40)])
def test_any_clip_goes_in(encoder, codec, shape):
    clip = Video.from_frames(np.random.default_rng(0).random(shape), 5.0)
    prepared = encoder.prepare(clip)
    assert encoder([prepared]).isfinite().all()
    assert prepared.coordinates.values[-1, 0] == pytest.approx(clip.times[-1])
    assert len(codec.encode([codec.prepare(clip)])) == codec.plan().rows


def test_a_cut_clip_stands_still(codec):
    codes = codec.encode([codec.prepare(codec.example(1))])
    half = codec.decode(codes[:32])
    still = codec.decode(torch.cat([codes[:32], codes[16:32], codes[16:32]]))
    np.testing.assert_array_equal(half.frames, still.frames)


def test_other_media_are_refused(encoder):
    with pytest.raises(MediaError, match="expected a Video"):
        encoder.prepare(Image.from_array(np.zeros((4, 4))))
