"""The encoder: a transformer over rows of a few frames.

Shapes: B motions, R rows of the longest, N frames a row, F numbers a frame, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anyany.parts import Media, Motion
from anyany.plugin import Prepared
from anyany_motion import body, features, rows


class MotionEncoder(nn.Module):
    """One feature row per ``frames`` frames at 15 fps.

    Args:
        joints: That a motion must have.
        frames: Per row.
        width: Of a feature row.
        depth: Transformer blocks.
        heads: Of their attention.
        seconds: Longest motion.
    """

    def __init__(self, *, joints: int, frames: int, width: int, depth: int, heads: int, seconds: float) -> None:
        super().__init__()
        self.joints, self.frames, self.width = joints, frames, width
        self.limit = round(seconds * features.FPS)
        self.stem = nn.Sequential(
            nn.Linear(frames * (features.width(joints) + 1), width), nn.GELU(), nn.Linear(width, width)
        )
        self.position = nn.Parameter(torch.randn(-(-self.limit // frames), width) * 0.02)
        block = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def example(self, seed: int) -> Motion:
        """A tiny valid motion."""
        return body.example(seed, body.neutral(self.joints))

    def prepare(self, media: Media) -> Prepared:
        """Frames at 15 fps in rows.

        Raises:
            MediaError: Not a motion, of another number of joints, or too long.
        """
        return rows.prepare(features.from_motion(media, "motion/rot6d", self.joints, self.limit), self.frames)

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(sum of rows, W)``; a motion sees only itself."""
        x, mask = (rows.stack(batch, name, self.position) for name in ("x", "mask"))  # (B, R, N * F), (B, R, N)
        shown = (x.unflatten(2, (self.frames, -1)) * mask[..., None]).flatten(2)
        real = rows.real(batch, x)
        hidden = self.stem(torch.cat([shown, mask], dim=2)) + self.position[: x.shape[1]]
        return self.blocks(hidden, src_key_padding_mask=~real)[real]


def build_encoder(**config: int | float) -> MotionEncoder:
    """The factory of ``motion/rot6d``."""
    return MotionEncoder(**config)  # type: ignore[arg-type]
