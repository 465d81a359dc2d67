"""The patch encoder: a convolutional stem, then a transformer over patches (ViT, arXiv 2010.11929).

Shapes: B pictures, C channels, S pixels a side, P patches a side, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from anyany.parts import Image, Media
from anyany.plugin import Coordinates, Prepared
from anyany_image import pixels


class PatchEncoder(nn.Module):
    """One feature row per patch.

    Args:
        size: Pixels a side; pictures are brought to it.
        channels: 1 (luminance) or 3.
        patch: Pixels a patch has; divides ``size``.
        width: Of a feature row.
        depth: Transformer blocks.
        heads: Of their attention.
    """

    def __init__(self, *, size: int, channels: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.size, self.channels, self.width = size, channels, width
        self.side = size // patch
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1), nn.GELU(),
            nn.Conv2d(32, 32, 3, padding=1, stride=2), nn.GELU(),
            nn.AdaptiveMaxPool2d(self.side * 2),
            nn.Conv2d(32, width, 3, padding=1), nn.GELU(),
            nn.Conv2d(width, width, 2, stride=2),
        )  # fmt: skip
        self.position = nn.Parameter(torch.randn(self.side**2, width) * 0.02)
        block = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def example(self, seed: int) -> Image:
        """A tiny valid picture."""
        return pixels.example(seed, self.size)

    def prepare(self, media: Media) -> Prepared:
        """Bring a picture to size; rows and coordinates are those of the grid."""
        return Prepared(
            arrays={"pixels": pixels.square(media, self.size, self.channels)},
            rows=self.side**2,
            coordinates=Coordinates(values=pixels.grid(self.side)),
        )

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(B * P * P, W)``."""
        x = torch.from_numpy(np.stack([p.arrays["pixels"] for p in batch])).to(self.position)  # (B, C, S, S)
        x = self.stem(x - 0.5).flatten(2).transpose(1, 2)  # (B, P * P, W)
        return self.blocks(x + self.position).flatten(0, 1)


def build_encoder(**config: int) -> PatchEncoder:
    """The factory of ``image/patch``."""
    return PatchEncoder(**config)
