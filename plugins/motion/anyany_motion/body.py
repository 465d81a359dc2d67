"""A neutral body of 24 joints, one unit tall where it stands, for motions that bring none of their own."""

from __future__ import annotations

import numpy as np

from anyany.media.kinematics import multiply
from anyany.parts import Motion, Skeleton

_JOINTS = (  # name, parent, offset from it: x to the left, y up, z to the front
    ("hips", -1, (0.0, 0.53, 0.0)),
    ("spine", 0, (0.0, 0.06, 0.0)),
    ("chest", 1, (0.0, 0.08, 0.0)),
    ("ribs", 2, (0.0, 0.06, 0.0)),
    ("neck", 3, (0.0, 0.12, 0.0)),
    ("head", 4, (0.0, 0.06, 0.0)),
    ("left collar", 3, (0.04, 0.08, 0.0)),
    ("left shoulder", 6, (0.07, 0.0, 0.0)),
    ("left elbow", 7, (0.0, -0.16, 0.0)),
    ("left wrist", 8, (0.0, -0.15, 0.0)),
    ("left hand", 9, (0.0, -0.06, 0.0)),
    ("right collar", 3, (-0.04, 0.08, 0.0)),
    ("right shoulder", 11, (-0.07, 0.0, 0.0)),
    ("right elbow", 12, (0.0, -0.16, 0.0)),
    ("right wrist", 13, (0.0, -0.15, 0.0)),
    ("right hand", 14, (0.0, -0.06, 0.0)),
    ("left hip", 0, (0.055, -0.04, 0.0)),
    ("left knee", 16, (0.0, -0.22, 0.0)),
    ("left ankle", 17, (0.0, -0.22, 0.0)),
    ("left toes", 18, (0.0, -0.04, 0.08)),
    ("right hip", 0, (-0.055, -0.04, 0.0)),
    ("right knee", 20, (0.0, -0.22, 0.0)),
    ("right ankle", 21, (0.0, -0.22, 0.0)),
    ("right toes", 22, (0.0, -0.04, 0.08)),
)


def neutral(joints: int = len(_JOINTS)) -> Skeleton:
    """The neutral body; with fewer joints its first ones, with more a tail at its last one."""
    tail = [(f"tail {joint}", joint - 1, (0.0, -0.02, 0.0)) for joint in range(len(_JOINTS), joints)]
    names, parents, offsets = zip(*(*_JOINTS[:joints], *tail), strict=True)
    return Skeleton(names, np.array(parents), np.array(offsets, np.float32))


def example(seed: int, skeleton: Skeleton) -> Motion:
    """One second of swaying on the way forward."""
    draw = np.random.default_rng(seed)
    frames, joints = 16, len(skeleton.names)
    times = np.arange(frames)[:, None, None] / 15
    angles = draw.uniform(0, 0.5, (1, joints, 1)) * np.sin(4 * times + draw.uniform(0, 6, (1, joints, 1))) / 2
    axes = draw.normal(size=(1, joints, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    rotations = np.concatenate([np.cos(angles), np.sin(angles) * axes], axis=-1)
    heading = np.array([np.cos(seed / 2), 0, np.sin(seed / 2), 0])
    rotations[:, 0] = multiply(heading, rotations[:, 0])
    root = skeleton.offsets[0] + times[:, 0] * draw.uniform(-0.5, 0.5, 3) * np.array([1, 0, 1])
    return Motion(rotations, root, skeleton, 15.0)
