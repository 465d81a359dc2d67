"""Point clouds. Files are read and written by trimesh.

Shapes: N points.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import trimesh

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaError, MediaTooLargeError, UnsupportedMediaError
from anyany.parts import Media

MOST = 100_000
"""Points of a cloud."""
SAMPLED = 1024
"""Points that are taken from the surface of a file that holds one."""


@dataclass(frozen=True, eq=False)
class Points(Media):
    """A set of points, in no order that means anything.

    Attributes:
        points: ``(N, 3)`` float32, in whatever unit the file is in.
    """

    modality: ClassVar[str] = "points"
    formats: ClassVar[tuple[str, ...]] = ("ply",)
    points: np.ndarray

    def __post_init__(self) -> None:
        points = np.asarray(self.points, np.float32)
        if points.size == 0:
            raise EmptyMediaError("points: expected at least one point, got none")
        if points.ndim != 2 or points.shape[1] != 3:
            raise MediaError(f"points: expected points (N, 3), got {points.shape}")
        if len(points) > MOST:
            raise MediaTooLargeError(f"points: at most {MOST} points, got {len(points)}; take some of them")
        if not np.isfinite(points).all():
            raise MediaError("points: expected finite numbers, got NaN or infinity; leave such points out")
        self._freeze(points=points)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a PLY, OBJ or STL file: its points, or so many from its surface, the same ones each time.

        Raises:
            UnsupportedMediaError: The bytes are of another format.
            MediaDecodeError: They are damaged.
            EmptyMediaError: They hold no point.
        """
        kind = _format(data)
        try:
            found = trimesh.load(io.BytesIO(data), file_type=kind, process=False)
            if isinstance(found, trimesh.Scene):
                found = found.to_geometry()
            faces = len(getattr(found, "faces", ()))
            points = trimesh.sample.sample_surface(found, SAMPLED, seed=0)[0] if faces else found.vertices
        except Exception:  # what trimesh raises about damaged files has no common type
            raise MediaDecodeError(f"points: these bytes of a {kind} file cannot be read; save it again") from None
        return cls(np.asarray(points))

    def to_bytes(self, format: str | None = None) -> bytes:
        """A PLY file of points alone."""
        if format not in (None, *self.formats):
            raise UnsupportedMediaError(f"points: expected the format ply, got {format!r}; name the file *.ply")
        return trimesh.PointCloud(self.points).export(file_type="ply")

    @property
    def centre(self) -> np.ndarray:
        """The mean, ``(3,)``."""
        return self.points.mean(axis=0, dtype=np.float64)

    @property
    def radius(self) -> float:
        """Root mean square distance from the centre; a single point has a tiny one."""
        away = np.square(self.points - self.centre).sum(axis=1)
        return max(float(np.sqrt(away.mean())), float(np.finfo(np.float32).tiny))

    @property
    def turn(self) -> np.ndarray:
        """``(3, 3)``: axes as columns, that of the largest spread first; the first two point to their longer tails."""
        about = self.points - self.centre
        axes = np.linalg.eigh(about.T @ about)[1][:, 1:][:, ::-1]
        axes = axes * np.where(((about @ axes) ** 3).sum(axis=0) < 0, -1.0, 1.0)
        return np.column_stack([axes, np.cross(*axes.T)])

    def shape(self) -> np.ndarray:
        """``(N, 3)`` without place and size: the centre is 0, the radius 1."""
        return ((self.points - self.centre) / self.radius).astype(np.float32)

    def __repr__(self) -> str:
        return f"Points({len(self.points)})"


def _format(data: bytes) -> str:
    """What the bytes begin with, and how many they are."""
    if data[:4].rstrip() == b"ply":
        return "ply"
    count = int.from_bytes(data[80:84], "little")
    if data.lstrip()[:6] == b"solid " or len(data) == 84 + 50 * count > 84:
        return "stl"
    if any(line.startswith((b"v ", b"v\t")) for line in data.splitlines()):
        return "obj"
    raise UnsupportedMediaError("points: expected the bytes of a PLY, STL or OBJ file; got another format")


def example(seed: int) -> Points:
    """A few points on a sphere: tiny, valid, no file, no network."""
    draw = np.random.default_rng(seed)
    points = draw.normal(size=(int(draw.integers(10, 20)), 3))
    return Points(points / np.linalg.norm(points, axis=1, keepdims=True) + draw.normal(size=3))
