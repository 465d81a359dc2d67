"""Heads: hidden states <-> latents. Loss, sampling, and the embedding that feeds a latent back in."""
