"""Motion <-> numbers per frame that do not depend on where a body starts and which way it looks.

A frame at 15 fps is ``6 J + 4`` numbers: the 6-D rotation of each joint (the first two columns of its matrix;
Zhou et al. 2019, arXiv 1812.07035), the root's without its heading; then the root's speed forward and to the
left, its height, and the speed at which the heading turns. Lengths are in sizes of the skeleton, turns in half
turns, both per second. Heading is the part of the root's rotation about the axis that points up.

Shapes: T frames at 15 fps, J joints, F = 6 J + 4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from anyany.errors import MediaError
from anyany.media.kinematics import from_matrix, multiply, resample, to_matrix, turn, upright
from anyany.parts import Media, Motion, Skeleton
from anyany_motion.rotations import gram_schmidt

FPS = 15.0
ROOT = 4
"""Numbers of the root, after those of the joints."""

Array = npt.NDArray[np.float32]


def width(joints: int) -> int:
    """F."""
    return 6 * joints + ROOT


def size(skeleton: Skeleton) -> float:
    """Length of bones from the root to the farthest tip, which no pose changes; 1 where all bones have none."""
    bones = np.linalg.norm(skeleton.offsets, axis=1)
    reach = np.zeros(len(bones))
    for joint, parent in enumerate(skeleton.parents.tolist()):
        if parent >= 0:
            reach[joint] = reach[parent] + bones[joint]
    return float(reach.max()) or 1.0


def from_motion(media: Media, part: str, joints: int, frames: int) -> Array:
    """A motion of any rate as ``(T, F)``; the first frame repeats the speeds of the second.

    Args:
        media: The motion.
        part: Who asks, for messages.
        joints: Joints that it must have.
        frames: Largest T.

    Raises:
        MediaError: Not a motion, of another number of joints, or too long.
    """
    if not isinstance(media, Motion):
        raise MediaError(f"{part}: expected a Motion, got {type(media).__name__}")
    found = len(media.skeleton.names)
    if found != joints:
        raise MediaError(f"{part}: expected {joints} joints, got {found}; configure it with joints={found}")
    rotations, root = resample(media.rotations, media.root, media.fps, FPS)
    if len(root) > frames:
        raise MediaError(f"{part}: at most {frames / FPS:g} s, got {media.seconds:.2f} s; cut the motion into pieces")
    level = upright(media.skeleton.up)
    root = turn(level, root) / size(media.skeleton)
    facing = multiply(level, rotations[:, 0])
    yaw = np.unwrap(2 * np.arctan2(facing[:, 2], facing[:, 0]))
    away = _heading(-yaw)
    turned = np.concatenate([multiply(away, facing)[:, None], rotations[:, 1:]], axis=1)
    six = to_matrix(turned)[..., :2].swapaxes(-1, -2).reshape(len(root), -1)
    speed = turn(away, _rate(root))
    numbers = [speed[:, 2], speed[:, 0], root[:, 1], _rate(yaw) / np.pi]
    return np.concatenate([six, np.stack(numbers, axis=1)], axis=1).astype(np.float32)


def to_motion(features: Array, skeleton: Skeleton) -> Motion:
    """``(T, F)`` -> a motion that starts at the origin, looking forward."""
    six = torch.from_numpy(features[:, :-ROOT]).double().view(len(features), -1, 6)
    rotations = from_matrix(gram_schmidt(six).numpy())
    forward, left, height, turning = features[:, -ROOT:].astype(np.float64).T
    heading = _heading(_sum(turning * np.pi))
    path = _sum(turn(heading, np.stack([left, np.zeros_like(left), forward], axis=1)))
    path[:, 1] = height
    back = upright(skeleton.up) * np.array([1, -1, -1, -1])
    rotations[:, 0] = multiply(back, multiply(heading, rotations[:, 0]))
    return Motion(rotations, turn(back, path * size(skeleton)), skeleton, FPS)


def _heading(yaw: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Quaternions ``(T, 4)`` of turns about y."""
    zero = np.zeros_like(yaw)
    return np.stack([np.cos(yaw / 2), zero, np.sin(yaw / 2), zero], axis=1)


def _rate(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Change per second since the frame before."""
    change = np.diff(values, axis=0) * FPS
    return np.concatenate([change[:1], change]) if len(change) else np.zeros_like(values)


def _sum(rates: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Values from rates, zero at the first frame."""
    return np.cumsum(np.concatenate([np.zeros_like(rates[:1]), rates[1:]]), axis=0) / FPS
