"""PSNR and SSIM are those of scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from anyany.errors import MediaError
from anyany.parts import Image
from anyany.plugin.registry import registry


def build(name):
    (spec,) = (s for s in registry().metrics if s.id == f"image/{name}")
    assert spec.higher_is_better
    return registry().build(spec)


def picture(seed, height=29, width=37):
    return Image.from_array(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def blended(a, b, share):
    return Image.from_array(np.round(a.pixels * (1 - share) + b.pixels * share).astype(np.uint8))


@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_they_are_those_of_scikit_image(share):
    metrics = pytest.importorskip("skimage.metrics")
    one, other = picture(0), blended(picture(0), picture(1), share)
    psnr = metrics.peak_signal_noise_ratio(one.pixels, other.pixels)
    assert build("psnr").measure(other, [one], ()) == pytest.approx(psnr, rel=1e-9)
    ssim = metrics.structural_similarity(
        one.pixels, other.pixels, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert build("ssim").measure(other, [one], ()) == pytest.approx(ssim, rel=1e-9)


def test_equal_pictures_and_the_better_of_two_references():
    one, other = picture(0), picture(1)
    psnr, ssim = build("psnr"), build("ssim")
    assert psnr.measure(one, [other, one], ()) == 100.0
    assert ssim.measure(one, [other, one], ()) == pytest.approx(1.0)
    assert psnr.total([10.0, 20.0]) == 15.0


def test_psnr_by_hand():
    black, grey = (Image.from_array(np.full((3, 5), level, np.uint8)) for level in (0, 51))
    assert build("psnr").measure(grey, [black], ()) == pytest.approx(20 * np.log10(5))


def test_what_cannot_be_compared():
    with pytest.raises(MediaError, match="resize one of the two"):
        build("psnr").measure(picture(0), [picture(0, width=38)], ())
    with pytest.raises(MediaError, match="SSIM needs at least 11 x 11 pixels, got 37 x 10"):
        build("ssim").measure(picture(0, height=10), [picture(0, height=10)], ())
