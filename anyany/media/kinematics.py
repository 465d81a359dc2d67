"""Rotations of joints and where they bring them. Quaternions are (w, x, y, z).

Shapes: T frames, J joints.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_HALF = float(np.sqrt(0.5))
UPRIGHT = {"y": (1.0, 0.0, 0.0, 0.0), "z": (_HALF, -_HALF, 0.0, 0.0), "x": (_HALF, 0.0, 0.0, _HALF)}
"""The turn that brings a world whose named axis points up to one where y does."""


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


def upright(up: str) -> Array:
    """Quaternion ``(4,)`` that turns a world in which the axis ``up`` points up into one where y does."""
    return np.array(UPRIGHT[up], np.float32)


def slerp(a: Array, b: Array, share: Array) -> Array:
    """Between quaternions ``(..., 4)`` on the shorter arc; ``share (...)`` 0 gives a, 1 gives b."""
    dot = (a * b).sum(axis=-1)
    b = np.where(dot[..., None] < 0, -b, b)
    angle = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    sine = np.sin(angle)
    near = sine < 1e-4  # the arc is straight there
    safe = np.where(near, 1.0, sine)
    left = np.where(near, 1 - share, np.sin((1 - share) * angle) / safe)
    right = np.where(near, share, np.sin(share * angle) / safe)
    mixed = left[..., None] * a + right[..., None] * b
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)


def resample(rotations: Array, root: Array, fps: float, target: float) -> tuple[Array, Array]:
    """Rotations ``(T, J, 4)`` and places ``(T, 3)`` at another rate; the first frame stays, no frame lies outside."""
    count = int((len(rotations) - 1) * target / fps + 1e-6) + 1
    places = np.minimum(np.arange(count) * (fps / target), len(rotations) - 1)
    low = np.minimum(places.astype(int), max(len(rotations) - 2, 0))
    high = np.minimum(low + 1, len(rotations) - 1)
    share = (places - low).astype(np.float32)
    turned = slerp(rotations[low], rotations[high], share[:, None])
    return turned, root[low] + share[:, None] * (root[high] - root[low])


def to_matrix(q: Array) -> Array:
    """Unit quaternions ``(..., 4)`` -> matrices ``(..., 3, 3)``."""
    return np.stack([turn(q, axis) for axis in np.eye(3, dtype=q.dtype)], axis=-1)


def from_matrix(m: Array) -> Array:
    """Rotation matrices ``(..., 3, 3)`` -> unit quaternions ``(..., 4)``.

    Each row of the symmetric 4 x 4 matrix of products of the quaternion's numbers is a multiple of the
    quaternion; the row with the largest diagonal has no small divisor.
    """
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = [
        [1 + xx + yy + zz, wx, wy, wz],
        [wx, 1 + xx - yy - zz, xy, xz],
        [wy, xy, 1 - xx + yy - zz, yz],
        [wz, xz, yz, 1 - xx - yy + zz],
    ]
    products = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    best = np.diagonal(products, axis1=-2, axis2=-1).argmax(axis=-1)
    chosen = np.take_along_axis(products, best[..., None, None], axis=-2)[..., 0, :]
    return chosen / np.linalg.norm(chosen, axis=-1, keepdims=True)


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
