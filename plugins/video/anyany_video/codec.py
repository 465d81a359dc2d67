"""The codec: a convolutional autoencoder whose tubelets are codes.

A tubelet is one cell of the grid during two frames.

Shapes: B clips, F frames, C channels, S pixels a side, G cells a side, L numbers per cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.parts import Media, Video
from anyany.plugin import Codes, Coordinates, Plan, Prepared
from anyany_image.fsq import FSQ
from anyany_video import frames

PAIR = 2


class VideoCodec(nn.Module):
    """Clips <-> ``F / 2 * G * G`` codes.

    Args:
        frames: F, even; frames are chosen evenly from a clip.
        size: Pixels a side.
        channels: 1 or 3.
        grid: Cells a side; ``size`` is 8 times as much.
        levels: Of the quantiser.
        width: Channels of the convolutions.
        fps: At which ``decode`` plays.
    """

    def __init__(
        self, *, frames: int, size: int, channels: int, grid: int, levels: Sequence[int], width: int, fps: float
    ) -> None:
        super().__init__()
        self.frames, self.size, self.channels, self.grid, self.fps = frames, size, channels, grid, fps
        self.quantiser = FSQ(levels)
        self.latents = Codes(vocab=self.quantiser.vocab)
        self.down = nn.Sequential(  # (B, C, F, S, S)
            nn.Conv3d(channels, width // 2, (2, 4, 4), stride=(2, 2, 2), padding=(0, 1, 1)), nn.GELU(),
            nn.Conv3d(width // 2, width, (1, 4, 4), stride=(1, 2, 2), padding=(0, 1, 1)), nn.GELU(),
            nn.Conv3d(width, 2 * width, (3, 2, 2), stride=(1, 2, 2), padding=(1, 0, 0)), nn.GELU(),
            nn.Conv3d(2 * width, len(levels), 1),
        )  # fmt: skip
        self.up = nn.Sequential(
            nn.Conv3d(len(levels), 2 * width, 3, padding=1), nn.GELU(),
            nn.ConvTranspose3d(2 * width, width, (1, 2, 2), stride=(1, 2, 2)), nn.GELU(),
            nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1)), nn.GELU(),
            nn.ConvTranspose3d(width, width, (1, 4, 4), stride=(1, 2, 2), padding=(0, 1, 1)), nn.GELU(),
            nn.ConvTranspose3d(width, width // 2, (2, 4, 4), stride=(2, 2, 2), padding=(0, 1, 1)), nn.GELU(),
            nn.Conv3d(width // 2, channels, 3, padding=1),
        )  # fmt: skip

    def example(self, seed: int) -> Video:
        """A square that crosses the picture."""
        return frames.example(seed, self.size)

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """``(C, F, S, S)``."""
        video, indices = frames.chosen(media, self.frames)
        pixels = frames.squares(video, indices, self.size, self.channels)
        return Prepared(
            arrays={"pixels": pixels.transpose(1, 0, 2, 3)}, rows=self.plan().rows, coordinates=self.plan().coordinates
        )

    def plan(self, like: Media | None = None) -> Plan:
        """Always the whole clip; pair after pair of frames."""
        times = np.arange(self.frames // PAIR) * PAIR / self.fps
        values = frames.cells(times, self.grid)
        return Plan(rows=len(values), fixed=True, coordinates=Coordinates(values=values, unit="seconds"))

    def _pixels(self, batch: Sequence[Prepared]) -> Tensor:
        return torch.from_numpy(np.stack([p.arrays["pixels"] for p in batch])).to(self.up[0].weight)

    def _quantise(self, x: Tensor) -> Tensor:
        """``(B, C, F, S, S)`` -> ``(B, F / 2, G, G, L)``."""
        return self.quantiser(self.down(x).permute(0, 2, 3, 4, 1))

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """Codes ``(B * F / 2 * G * G, 1)``."""
        return self.quantiser.codes(self._quantise(self._pixels(batch))).view(-1, 1)

    def decode(self, latents: Tensor, like: Media | None = None) -> Video:
        """Codes ``(n, 1)`` -> a clip; cells that are missing repeat the moment before them."""
        cells = torch.full((self.plan().rows,), self.quantiser.vocab // 2, device=latents.device)
        cells[: len(latents)] = latents[:, 0]
        moment = self.grid**2
        for index in range(max(len(latents), moment), len(cells)):
            cells[index] = cells[index - moment]
        values = self.quantiser.values(cells).view(1, -1, self.grid, self.grid, self.quantiser.dim)
        with torch.no_grad():
            made = torch.sigmoid(self.up(values.permute(0, 4, 1, 2, 3)))[0]  # (C, F, S, S)
        return frames.clip(made.transpose(0, 1).float().cpu().numpy(), self.fps)

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """Binary cross-entropy of each pixel."""
        x = self._pixels(batch)
        made = self.up(self._quantise(x).permute(0, 4, 1, 2, 3))
        return {"pixels": F.binary_cross_entropy_with_logits(made, x)}


def build_codec(**config: object) -> VideoCodec:
    """The factory of ``video/fsq``."""
    return VideoCodec(**config)  # type: ignore[arg-type]
