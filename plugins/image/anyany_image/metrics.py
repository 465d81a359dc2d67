"""How close a picture comes to another of the same size.

Shapes: H, W pixels, C channels, all from 0 to 255.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from anyany.errors import MediaError
from anyany.parts import Image
from anyany.plugin import Mean

MOST = 100.0
"""Decibels that equal pictures get, which have no limit."""
SIGMA, SIDE = 1.5, 11
"""Of the window of SSIM, in pixels."""


def psnr() -> Mean:
    """Peak signal-to-noise ratio in dB, the best of the references."""
    return Mean(lambda answer, references, _: max(_psnr(*_pair(answer, r)) for r in references))


def ssim() -> Mean:
    """Structural similarity (Wang et al. 2004) with their Gaussian window, the best of the references."""
    return Mean(lambda answer, references, _: max(_ssim(*_pair(answer, r)) for r in references))


def _pair(answer: Image, reference: Image) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    a, b = answer.pixels.astype(np.float64), reference.pixels.astype(np.float64)
    if a.shape != b.shape:
        raise MediaError(f"image: expected pixels {b.shape} as the reference has, got {a.shape}; resize one of the two")
    return a, b


def _psnr(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    error = float(np.mean((a - b) ** 2))
    return MOST if error == 0 else min(MOST, 10 * math.log10(255**2 / error))


def _ssim(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Mean over channels and over all places where the window fits."""
    if min(a.shape[:2]) < SIDE:
        raise MediaError(f"image: SSIM needs at least {SIDE} x {SIDE} pixels, got {a.shape[1]} x {a.shape[0]}")
    mean_a, mean_b = _smooth(a), _smooth(b)
    square_a, square_b, both = _smooth(a * a) - mean_a**2, _smooth(b * b) - mean_b**2, _smooth(a * b) - mean_a * mean_b
    low, high = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # keep dark and even places from dividing by nothing
    light = (2 * mean_a * mean_b + low) / (mean_a**2 + mean_b**2 + low)
    shape = (2 * both + high) / (square_a + square_b + high)
    return float(np.mean(light * shape))


def _smooth(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``(H, W, C)`` -> ``(H - 10, W - 10, C)``: Gaussian means, by rows and by columns."""
    at = np.arange(SIDE) - SIDE // 2
    window = np.exp(-0.5 * (at / SIGMA) ** 2)
    window /= window.sum()
    for axis in (0, 1):
        x = np.lib.stride_tricks.sliding_window_view(x, SIDE, axis=axis) @ window
    return x
