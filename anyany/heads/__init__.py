"""Heads: hidden states <-> latents. Loss, sampling, and the embedding that feeds a latent back in."""

from anyany.heads.base import Head, HeadLoss
from anyany.heads.build import build
from anyany.heads.text import TextHead

__all__ = ["Head", "HeadLoss", "TextHead", "build"]
