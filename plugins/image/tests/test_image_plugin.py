"""The image plugin keeps the contract."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from anyany.errors import MediaError
from anyany.parts import Audio, Image
from anyany.plugin.registry import registry


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return registry().build(registry().encoder("image")).eval()


@pytest.fixture
def codec():
    torch.manual_seed(0)
    return registry().build(registry().codec("image")).eval()


def test_the_manifest_is_light():
    code = "import anyany_image, sys; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_declared_equals_produced_and_batch_equals_singles(encoder, codec):
    media = [encoder.example(s) for s in range(3)]
    for component, run in ((encoder, encoder), (codec, codec.encode)):
        batch = [component.prepare(m) for m in media]
        together = run(batch)
        assert together.shape[0] == sum(p.rows for p in batch)
        torch.testing.assert_close(together, torch.cat([run([p]) for p in batch]), rtol=1e-4, atol=1e-5)
        assert batch[0].coordinates.values.shape == (batch[0].rows, 3)


def test_codes_are_valid_and_decode_to_a_picture(codec):
    codes = codec.encode([codec.prepare(codec.example(1))])
    assert codes.min() >= 0
    assert codes.max() < codec.latents.vocab
    assert isinstance(codec.decode(codes), Image)
    assert isinstance(codec.decode(codes[:1]), Image)
    every = torch.arange(codec.latents.vocab)
    torch.testing.assert_close(codec.quantiser.codes(codec.quantiser.values(every)), every)


def test_gradients_reach_every_parameter(encoder, codec):
    encoder([encoder.prepare(encoder.example(0))]).square().sum().backward()
    sum(codec.loss([codec.prepare(codec.example(0))]).values()).backward()
    for component in (encoder, codec):
        assert all(p.grad is not None for p in component.parameters())


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (60, 1), (13, 40), (300, 200)])
def test_any_size_goes_in(encoder, codec, shape):
    image = Image.from_array(np.random.default_rng(0).random(shape))
    assert encoder([encoder.prepare(image)]).isfinite().all()
    assert len(codec.encode([codec.prepare(image)])) == codec.plan().rows


def test_other_media_are_refused(encoder):
    with pytest.raises(MediaError, match="expected an Image"):
        encoder.prepare(Audio.from_array(np.zeros(8), 8000))
