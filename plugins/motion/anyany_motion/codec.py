"""The codec: an autoencoder whose rows of a few frames become vectors.

Shapes: B motions, R rows of the longest, N frames a row, F numbers a frame, J joints, W width, D numbers a latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.errors import MediaError
from anyany.parts import Media, Motion, Skeleton
from anyany.plugin import Plan, Prepared, Vectors
from anyany_motion import body, features, rows
from anyany_motion.rotations import gram_schmidt, joints
from anyany_motion.unit import Unit

NOISE = 0.05
"""On latents while training, so that latents that lie close decode alike: what a flow head needs."""
POSITION, ROOT = 10.0, 5.0
"""Weights: places of joints are small numbers, and errors of the root's numbers add up along its path."""


class Neighbours(nn.Module):
    """A residual block that sees one row before and one after."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Conv1d(width, width, 3, padding=1)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """``(B, R, W)``, with ``real (B, R)`` -> the same; rows that are not real count as none."""
        seen = self.norm(x) * real[..., None]
        return x + self.out(F.gelu(self.mix(seen.transpose(1, 2)).transpose(1, 2)))


class MotionCodec(nn.Module):
    """Motions <-> rows of ``dim`` numbers, each with mean 0 and deviation 1 over what it was trained on.

    Args:
        joints: That a motion must have.
        frames: Per row, at 15 fps.
        rows: Most rows of a motion.
        dim: Numbers per row.
        width: Of the hidden rows.
        names: Of the joints of its skeleton, which motions get that follow no other; ``None``: a neutral body.
        parents: Of these joints.
        offsets: Of these joints, from their parents.
    """

    def __init__(
        self, *, joints: int, frames: int, rows: int, dim: int, width: int,
        names: Sequence[str] | None, parents: Sequence[int] | None, offsets: Sequence[Sequence[float]] | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.joints, self.frames, self.rows = joints, frames, rows
        self.latents = Vectors(dim=dim, objective="flow")
        self.skeleton = body.neutral(joints) if names is None else Skeleton(tuple(names), parents, offsets)
        if len(self.skeleton.names) != joints:
            raise MediaError(f"motion/latent: expected a skeleton of {joints} joints, got {len(self.skeleton.names)}")
        numbers = frames * features.width(joints)
        self.read, self.before, self.squeeze = nn.Linear(numbers, width), Neighbours(width), nn.Linear(width, dim)
        self.unit = Unit(dim)
        self.expand, self.after, self.write = nn.Linear(dim, width), Neighbours(width), nn.Linear(width, numbers)
        bones = torch.from_numpy(self.skeleton.offsets) / features.size(self.skeleton)
        self.bones: Tensor
        self.register_buffer("bones", bones, persistent=False)

    def example(self, seed: int) -> Motion:
        """A tiny valid motion."""
        return body.example(seed, self.skeleton)

    def prepare(self, media: Media, like: Media | None = None) -> Prepared:
        """Frames at 15 fps in rows.

        Raises:
            MediaError: Not a motion, of another number of joints, or too long.
        """
        limit = self.rows * self.frames
        return rows.prepare(features.from_motion(media, "motion/latent", self.joints, limit), self.frames)

    def plan(self, like: Media | None = None) -> Plan:
        """Up to ``rows`` rows."""
        return Plan(rows=self.rows, fixed=False, coordinates=rows.coordinates(self.rows, self.frames))

    def _squeezed(self, x: Tensor, real: Tensor) -> Tensor:
        """``(B, R, N * F)`` -> ``(B, R, D)``, of any scale."""
        return self.squeeze(self.before(F.gelu(self.read(x)), real))

    def _expanded(self, latents: Tensor, real: Tensor) -> Tensor:
        """``(B, R, D)`` -> ``(B, R, N, F)``."""
        x = self.write(self.after(F.gelu(self.expand(latents)), real))
        return x.unflatten(2, (self.frames, -1))

    def encode(self, batch: Sequence[Prepared]) -> Tensor:
        """Latents ``(sum of rows, D)``."""
        x = rows.stack(batch, "x", self.read.weight)
        real = rows.real(batch, x)
        return self.unit(self._squeezed(x, real)[real])

    def decode(self, latents: Tensor, like: Media | None = None) -> Motion:
        """Latents ``(n, D)`` -> ``n * frames`` frames at 15 fps, on the skeleton of ``like`` where it fits.

        The motion starts at the origin and looks forward; bones keep their length by construction.
        """
        follow = isinstance(like, Motion) and len(like.skeleton.names) == self.joints
        with torch.no_grad():
            real = torch.ones(1, len(latents), dtype=torch.bool, device=latents.device)
            x = self._expanded(latents.to(self.write.weight)[None], real)[0].flatten(0, 1)
        return features.to_motion(x.float().cpu().numpy(), like.skeleton if follow else self.skeleton)

    def loss(self, batch: Sequence[Prepared]) -> Mapping[str, Tensor]:
        """Errors: squared of 6-D ``rotations`` and of joints from the root (``positions``), Huber's of the ``root``."""
        x, mask = (rows.stack(batch, name, self.read.weight) for name in ("x", "mask"))
        real = rows.real(batch, x)
        latents = torch.zeros(*real.shape, self.latents.dim).to(x)
        rows_of = self._squeezed(x, real)[real].float()
        latents[real] = self.unit.learn(rows_of) if self.training else self.unit(rows_of)
        if self.training:
            latents = latents + NOISE * torch.randn_like(latents)
        kept = mask.bool()
        made, want = self._expanded(latents, real)[kept], x.unflatten(2, (self.frames, -1))[kept]
        root = features.ROOT
        return {
            "rotations": F.mse_loss(made[:, :-root], want[:, :-root]),
            "root": ROOT * F.smooth_l1_loss(made[:, -root:], want[:, -root:]),
            "positions": POSITION * (self._places(made) - self._places(want)).square().sum(dim=-1).mean(),
        }

    def _places(self, frames: Tensor) -> Tensor:
        """``(n, F)`` -> joints relative to the root ``(n, J, 3)``, in sizes of the skeleton."""
        matrices = gram_schmidt(frames[:, : -features.ROOT].unflatten(1, (-1, 6)))
        return joints(matrices, self.skeleton.parents.tolist(), self.bones)


def build_codec(**config: object) -> MotionCodec:
    """The factory of ``motion/latent``."""
    return MotionCodec(**config)  # type: ignore[arg-type]
