"""Bodies that have a name: their surfaces are sampled by trimesh, stretched and turned at random."""

from __future__ import annotations

import numpy as np
import trimesh
from trimesh import creation

from anyany_points.media import Points

SOLIDS = {
    "box": lambda: creation.box((1.2, 1.0, 0.7)),
    "sphere": lambda: creation.icosphere(subdivisions=3),
    "cylinder": lambda: creation.cylinder(radius=0.5, height=1.5, sections=48),
    "cone": lambda: creation.cone(radius=0.5, height=1.6, sections=48),
    "torus": lambda: creation.torus(major_radius=1.0, minor_radius=0.3),
    "capsule": lambda: creation.capsule(radius=0.3, height=1.2),
}
NAMES = tuple(SOLIDS)
STRETCH = (0.85, 1.15)
"""Of each axis of a body, before it is turned."""
_made: dict[str, trimesh.Trimesh] = {}


def cloud(name: str, draw: np.random.Generator, count: int = 128) -> Points:
    """Points on the surface of a body of that name; every call another stretch, turn and size."""
    if name not in _made:
        _made[name] = SOLIDS[name]()
    points, _ = trimesh.sample.sample_surface(_made[name], count, seed=int(draw.integers(1 << 31)))
    turn = trimesh.transformations.random_rotation_matrix(draw.random(3))[:3, :3]
    return Points((points * draw.uniform(*STRETCH, 3)) @ turn.T * np.exp(draw.normal()) + draw.normal(size=3))


def spread(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of so many points ``(N, 3)``, each as far as can be from those before it; the first is the outermost.

    Farthest point sampling (arXiv 1706.02413).
    """
    chosen = [int(np.square(points - points.mean(axis=0)).sum(axis=1).argmax())]
    away = np.full(len(points), np.inf)
    while len(chosen) < count:
        away = np.minimum(away, np.square(points - points[chosen[-1]]).sum(axis=1))
        chosen.append(int(away.argmax()))
    return np.array(chosen)


def apart(points: Points) -> np.ndarray:
    """Numbers that no turn changes: how far apart pairs of points are (Osada et al. 2002), and how far from the centre.

    Sorted distances of both kinds at 32 quantiles each, with which a judge tells bodies.
    """
    shape = points.shape().astype(np.float64)
    levels = np.linspace(0, 1, 32)
    pairs = np.linalg.norm(shape[:, None] - shape, axis=-1)[np.triu_indices(len(shape), 1)]
    spreads = np.linalg.eigvalsh(np.cov(shape.T))
    return np.concatenate([np.quantile(pairs, levels), np.quantile(np.linalg.norm(shape, axis=1), levels), spreads])
