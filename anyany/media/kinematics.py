"""Rotations of joints and where they bring them. Quaternions are (w, x, y, z).

Shapes: T frames, J joints.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def multiply(a: Array, b: Array) -> Array:
    """Hamilton product of ``(..., 4)``: first b, then a."""
    w, x, y, z = np.moveaxis(a, -1, 0)
    p, q, r, s = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            w * p - x * q - y * r - z * s,
            w * q + x * p + y * s - z * r,
            w * r - x * s + y * p + z * q,
            w * s + x * r - y * q + z * p,
        ],
        axis=-1,
    )


def turn(q: Array, v: Array) -> Array:
    """Vectors ``(..., 3)`` turned by quaternions ``(..., 4)``."""
    axis = q[..., 1:]
    twice = 2 * np.cross(axis, v)
    return v + q[..., :1] * twice + np.cross(axis, twice)


def forward_kinematics(rotations: Array, root: Array, parents: npt.NDArray[np.int64], offsets: Array) -> Array:
    """World positions ``(T, J, 3)`` from local rotations ``(T, J, 4)`` and the root's place ``(T, 3)``."""
    world = np.empty_like(rotations)
    places = np.empty((*rotations.shape[:2], 3), np.float32)
    world[:, 0], places[:, 0] = rotations[:, 0], root
    for joint, parent in enumerate(parents.tolist()):
        if parent >= 0:
            world[:, joint] = multiply(world[:, parent], rotations[:, joint])
            places[:, joint] = places[:, parent] + turn(world[:, parent], offsets[joint])
    return places
