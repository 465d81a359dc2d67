"""The encoder: each frame and what changed since the one before it, through the image plugin's patch encoder.

Shapes: B clips, F frames per clip, P patches a side, C channels, S pixels a side, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.parts import Media, Video
from anyany.plugin import Coordinates, Prepared
from anyany_image.patch import PatchEncoder
from anyany_video import frames

SIDE = 2
"""Rows a side that a frame becomes."""


class FrameEncoder(nn.Module):
    """``SIDE * SIDE`` feature rows per frame, placed in seconds.

    Args:
        frames: Frames that are looked at, spread over the clip.
        size: Pixels a side.
        channels: 1 or 3.
        patch: Pixels a patch has.
        width: Of a feature row.
        depth: Transformer blocks within a frame, and again within a clip.
        heads: Of their attention.
    """

    def __init__(
        self, *, frames: int, size: int, channels: int, patch: int, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.frames, self.size, self.channels, self.width = frames, size, channels, width
        self.image = PatchEncoder(
            size=size, channels=2 * channels, patch=patch, width=width, depth=depth, heads=heads
        )  # fmt: skip
        self.pool = nn.Conv2d(width, width, self.image.side // SIDE, stride=self.image.side // SIDE)
        self.position = nn.Parameter(torch.randn(frames * SIDE**2, width) * 0.02)
        block = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def example(self, seed: int) -> Video:
        """A square that crosses the picture."""
        return frames.example(seed, self.size)

    def prepare(self, media: Media) -> Prepared:
        """Frames and differences ``(F, 2 C, S, S)``."""
        video, indices = frames.chosen(media, self.frames)
        now = frames.squares(video, indices, self.size, self.channels)
        change = np.diff(now, axis=0, prepend=now[:1]) / 2 + 0.5
        return Prepared(
            arrays={"pixels": np.concatenate([now, change], axis=1)},
            rows=self.frames * SIDE**2,
            coordinates=Coordinates(values=frames.cells(video.times[indices], SIDE), unit="seconds"),
        )

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(B * F * SIDE * SIDE, W)``."""
        singles = [
            Prepared(arrays={"pixels": frame}, rows=self.image.side**2) for p in batch for frame in p.arrays["pixels"]
        ]
        x = self.image(singles).view(len(singles), self.image.side, self.image.side, self.width)
        x = self.pool(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)  # (B * F, SIDE * SIDE, W)
        x = x.reshape(len(batch), -1, self.width) + self.position
        return self.blocks(x).flatten(0, 1)


def build_encoder(**config: int) -> FrameEncoder:
    """The factory of ``video/frames``."""
    return FrameEncoder(**config)
