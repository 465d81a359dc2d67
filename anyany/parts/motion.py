"""Motion of a skeleton."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaError
from anyany.parts.base import Media

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Joints of a body.

    Attributes:
        names: Of the joints; parents stand before their children.
        parents: ``(J,)``; -1 for the root.
        offsets: ``(J, 3)`` from the parent, at rest.
        up: Axis that points up.
    """

    names: tuple[str, ...]
    parents: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.float32] = field(repr=False)
    up: str = "y"

    def __post_init__(self) -> None:
        parents, offsets = np.asarray(self.parents, np.int64), np.asarray(self.offsets, np.float32)
        count = len(self.names)
        if parents.shape != (count,) or offsets.shape != (count, 3):
            raise MediaError(f"skeleton: {count} names, parents {parents.shape}, offsets {offsets.shape}")
        if count == 0 or parents[0] != -1 or any(not 0 <= p < i for i, p in enumerate(parents.tolist()) if i):
            raise MediaError("skeleton: expected the root first, and each parent before its children")
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "parents", parents)
        object.__setattr__(self, "offsets", offsets)

    def key(self) -> str:
        """Content as text."""
        return f"{self.names}{self.parents.tolist()}{self.offsets.tobytes().hex()}{self.up}"


@dataclass(frozen=True, eq=False, repr=False)
class Motion(Media):
    """A clip: ``rotations (T, J, 4)`` local unit quaternions (w, x, y, z), ``root (T, 3)``, at ``fps``."""

    modality: ClassVar[str] = "motion"
    formats: ClassVar[tuple[str, ...]] = ("npz",)
    rotations: npt.NDArray[np.float32]
    root: npt.NDArray[np.float32]
    skeleton: Skeleton
    fps: float

    def __post_init__(self) -> None:
        rotations, root = np.asarray(self.rotations, np.float32), np.asarray(self.root, np.float32)
        joints = len(self.skeleton.names)
        if rotations.ndim != 3 or rotations.shape[1:] != (joints, 4) or root.shape != (len(rotations), 3):
            raise MediaError(
                f"motion: expected rotations (T, {joints}, 4) and root (T, 3), got {rotations.shape}, {root.shape}"
            )
        if len(rotations) == 0:
            raise EmptyMediaError("motion: expected at least one frame, got none")
        norms = np.linalg.norm(rotations, axis=-1, keepdims=True)
        if not np.isfinite(root).all() or not np.isfinite(norms).all() or (norms < 1e-6).any():
            raise MediaError("motion: expected finite numbers and quaternions that are not zero")
        if not 0 < self.fps <= 1000:
            raise MediaError(f"motion: expected 0 < fps <= 1000, got {self.fps}")
        self._freeze(rotations=rotations / norms, root=root, fps=float(self.fps))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode npz."""
        from anyany.media.motion import decode

        rotations, root, skeleton, fps = decode(data)
        return cls(rotations, root, Skeleton(*skeleton), fps)

    def to_bytes(self, format: str | None = None) -> bytes:
        """Encode as npz."""
        from anyany.media.motion import encode

        s = self.skeleton
        return encode(self.rotations, self.root, (s.names, s.parents, s.offsets, s.up), self.fps, format or "npz")

    def positions(self) -> npt.NDArray[np.float32]:
        """World positions of the joints ``(T, J, 3)``, by forward kinematics."""
        from anyany.media.kinematics import forward_kinematics

        return forward_kinematics(self.rotations, self.root, self.skeleton.parents, self.skeleton.offsets)

    @property
    def seconds(self) -> float:
        """Length."""
        return len(self.rotations) / self.fps

    def picture(self) -> PILImage:
        """Stick figures over time."""
        from anyany.media.drawing import figures

        return figures(self.positions(), self.skeleton.parents)

    def __repr__(self) -> str:
        return f"Motion({len(self.rotations)} frames, {len(self.skeleton.names)} joints, {self.fps:g} fps)"
