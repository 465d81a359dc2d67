"""Motion of a skeleton."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from anyany.errors import EmptyMediaError, MediaError
from anyany.parts.base import Media, data_tag, number, numbers

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Joints of a body.

    Attributes:
        names: Of the joints; parents stand before their children.
        parents: ``(J,)``; -1 for the root.
        offsets: ``(J, 3)`` from the parent, at rest.
        up: Axis that points up: ``x``, ``y`` or ``z``.
    """

    names: tuple[str, ...]
    parents: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.float32] = field(repr=False)
    up: str = "y"

    def __post_init__(self) -> None:
        parents, offsets = numbers("skeleton", self.parents, np.int64), numbers("skeleton", self.offsets, np.float32)
        names = tuple(self.names) if not isinstance(self.names, str) else ()
        count = len(names)
        if not all(isinstance(name, str) for name in names):
            raise MediaError("skeleton: expected names of joints as text")
        if parents.shape != (count,) or offsets.shape != (count, 3):
            raise MediaError(f"skeleton: {count} names, parents {parents.shape}, offsets {offsets.shape}")
        if not np.isfinite(offsets).all():
            raise MediaError("skeleton: expected finite offsets, got NaN or infinity")
        if count == 0 or parents[0] != -1 or any(not 0 <= p < i for i, p in enumerate(parents.tolist()) if i):
            raise MediaError("skeleton: expected the root first, and each parent before its children")
        if self.up not in ("x", "y", "z"):
            raise MediaError(f"skeleton: expected up to be x, y or z, got {self.up!r}")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "parents", parents)
        object.__setattr__(self, "offsets", offsets)

    def key(self) -> str:
        """Content as text."""
        return f"{self.names}{self.parents.tolist()}{self.offsets.tobytes().hex()}{self.up}"


@dataclass(frozen=True, eq=False, repr=False)
class Motion(Media):
    """A clip: ``rotations (T, J, 4)`` local unit quaternions (w, x, y, z), ``root (T, 3)``, at ``fps``."""

    modality: ClassVar[str] = "motion"
    formats: ClassVar[tuple[str, ...]] = ("npz", "bvh", "glb")
    rotations: npt.NDArray[np.float32]
    root: npt.NDArray[np.float32]
    skeleton: Skeleton
    fps: float

    def __post_init__(self) -> None:
        if not isinstance(self.skeleton, Skeleton):
            raise MediaError(f"motion: expected a Skeleton, got {type(self.skeleton).__name__}")
        rotations, root = numbers("motion", self.rotations, np.float32), numbers("motion", self.root, np.float32)
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
        fps = number("motion", "fps", self.fps, 1e-6, 1000)
        self._freeze(rotations=rotations / norms, root=root, fps=fps)

    @classmethod
    def open(cls, path: str | Path, clip: str | None = None) -> Self:
        """Read an npz, BVH or glb file; its content decides the format, not its name.

        Args:
            path: The file.
            clip: Which of its clips; needed where a glb file has several (see ``clips``).

        Raises:
            MediaError: The file is damaged, too large, empty, of a format that is not read, or lacks the clip.
        """
        return cls.from_bytes(cls._read(path), clip)

    @classmethod
    def from_bytes(cls, data: bytes, clip: str | None = None) -> Self:
        """Decode npz, BVH or glb; ``clip`` chooses one of several animations of a glb file."""
        from anyany.media.motion import decode

        rotations, root, skeleton, fps = decode(data, clip)
        return cls(rotations, root, Skeleton(*skeleton), fps)

    @classmethod
    def clips(cls, path: str | Path) -> tuple[str, ...]:
        """Names of the clips of a glb file; none for npz and BVH, which hold one without a name."""
        from anyany.media.motion import clips

        return clips(cls._read(path))

    def to_bytes(self, format: str | None = None) -> bytes:
        """Encode as npz, BVH or glb. BVH and glb files have y up: the motion is turned where it has not."""
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

        return figures(self._upright(), self.skeleton.parents)

    def animation(self) -> bytes:
        """A stick figure that moves, as an animated webp of at most 60 frames."""
        from anyany.media.drawing import moving_figure

        return moving_figure(self._upright(), self.skeleton.parents, self.seconds)

    def _upright(self) -> npt.NDArray[np.float32]:
        from anyany.media.kinematics import turn, upright

        return turn(upright(self.skeleton.up), self.positions())

    def _repr_html_(self) -> str:
        return data_tag("img", self.animation(), "image/webp", f'alt="{html.escape(repr(self))}"')

    def __repr__(self) -> str:
        return f"Motion({len(self.rotations)} frames, {len(self.skeleton.names)} joints, {self.fps:g} fps)"
