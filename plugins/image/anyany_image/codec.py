"""The codec: a convolutional autoencoder whose grid cells are codes.

Shapes: B pictures, C channels, S pixels a side, G cells a side, L numbers per cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.parts import Image, Media
from anyany.plugin import Codes, Coordinates, Plan, Prepared
from anyany_image import pixels
from anyany_image.fsq import FSQ


class ImageCodec(nn.Module):
    """Pictures <-> ``grid * grid`` codes.

    Args:
        size: Pixels a side.
        channels: 1 or 3.
        grid: Cells a side.
        levels: Of the quantiser.
        width: Channels of the convolutions.
    """

    def __init__(self, *, size: int, channels: int, grid: int, levels: Sequence[int], width: int) -> None:
        super().__init__()
        self.size, self.channels, self.grid = size, channels, grid
        self.quantiser = FSQ(levels)
        self.latents = Codes(vocab=self.quantiser.vocab)
        self.down = nn.Sequential(
            nn.Conv2d(channels, width // 2, 3, padding=1, stride=2), nn.GELU(),
            nn.Conv2d(width // 2, width, 3, padding=1), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, stride=2), nn.GELU(),
            nn.AdaptiveAvgPool2d(2 * grid),
            nn.Conv2d(width, 2 * width, 2, stride=2), nn.GELU(),
            nn.Conv2d(2 * width, len(levels), 1),
        )  # fmt: skip
        self.up = nn.Sequential(
            nn.Conv2d(len(levels), 2 * width, 3, padding=1), nn.GELU(),
            nn.ConvTranspose2d(2 * width, width, 2, stride=2), nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(),
            nn.Upsample((size // 2, size // 2), mode="nearest"),
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(),
            nn.ConvTranspose2d(width, width // 2, 2, stride=2), nn.GELU(),
            nn.Conv2d(width // 2, channels, 3, padding=1),
        )  # fmt: skip

    def example(self, seed: int) -> Image:
        """A tiny valid picture."""
        return pixels.example(seed, self.size)

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """Bring a picture to size."""
        return Prepared(
            arrays={"pixels": pixels.square(media, self.size, self.channels)},
            rows=self.grid**2,
            coordinates=Coordinates(values=pixels.grid(self.grid)),
        )

    def plan(self, like: Media | None = None) -> Plan:
        """Always the whole grid."""
        return Plan(rows=self.grid**2, fixed=True, coordinates=Coordinates(values=pixels.grid(self.grid)))

    def _pixels(self, batch: Sequence[Prepared]) -> Tensor:
        return torch.from_numpy(np.stack([p.arrays["pixels"] for p in batch])).to(self.up[0].weight)

    def _quantise(self, x: Tensor) -> Tensor:
        """``(B, C, S, S)`` -> ``(B, G, G, L)``."""
        return self.quantiser(self.down(x).permute(0, 2, 3, 1))

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """Codes ``(B * G * G, 1)``."""
        return self.quantiser.codes(self._quantise(self._pixels(batch))).view(-1, 1)

    def decode(self, latents: Tensor, like: Media | None = None) -> Image:
        """Codes ``(n, 1)`` -> a picture; cells that are missing take the middle level."""
        cells = torch.full((self.grid**2,), self.quantiser.vocab // 2, device=latents.device)
        cells[: len(latents)] = latents[:, 0]
        values = self.quantiser.values(cells).view(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        with torch.no_grad():
            return pixels.picture(torch.sigmoid(self.up(values))[0].float().cpu().numpy())

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """Binary cross-entropy of each pixel."""
        x = self._pixels(batch)
        return {"pixels": F.binary_cross_entropy_with_logits(self.up(self._quantise(x).permute(0, 3, 1, 2)), x)}


def build_codec(**config: object) -> ImageCodec:
    """The factory of ``image/fsq``."""
    return ImageCodec(**config)  # type: ignore[arg-type]
