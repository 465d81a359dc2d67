"""Motion as BVH (Biovision hierarchy); turns are converted, and files written, by pybvh.

End Sites become joints that never turn, unless they lie on their joint: those are the ones that we write, because
BVH asks for one below every leaf. BVH names no axis that points up; y does by custom. Joints come back depth first.

Only the root of a ``Motion`` moves. Where a file has positions on other joints, they stand in place of offsets; a joint
is put at their mean over the clip, which is exact for the bodies of fixed bones that programs write in this way.

Shapes: T frames, J joints, C channels.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from anyany.media.kinematics import multiply, turn, upright
from anyany.media.limits import Limits
from anyany.media.motion_bvh_text import Joint, parse
from anyany.media.motion_form import Decoded, Skeleton, check_frames
from anyany.media.packages import need

ORDER = "ZXY"
"""Euler order of the files that we write; every order is read."""
AXES = "XYZ"


def decode(data: bytes, limits: Limits) -> Decoded:
    """The clip of a file."""
    joints, table, seconds = parse(data.decode("utf-8-sig", "replace"), limits)
    kept = [index for index, joint in enumerate(joints) if joint.name or np.any(joint.offset)]
    check_frames(len(table), len(kept), limits)
    place = {index: new for new, index in enumerate(kept)}
    rotations = np.zeros((len(table), len(kept), 4), np.float32)
    rotations[..., 0] = 1.0
    offsets = np.array([joints[index].offset for index in kept], np.float64)
    root, column = np.zeros((len(table), 3)), 0
    for index, joint in enumerate(joints):
        values = table[:, column : column + len(joint.channels)]  # (T, C of this joint)
        column += len(joint.channels)
        moved = _moved(joint, values)
        if joint.parent < 0:
            root = moved
        elif index in place and np.any(moved):  # all zeros: a program that writes what is added to the offset
            offsets[place[index]] = moved.mean(axis=0)
        if any(kind == "rotation" for _, kind in joint.channels):
            rotations[:, place[index]] = _turned(joint, values)
    names = tuple(joints[index].name or f"EndSite{joints[joints[index].parent].name}" for index in kept)
    parents = np.array([place.get(joints[index].parent, -1) for index in kept])
    rate = 1 / seconds
    whole = round(rate)  # 0.033333 stands for 30 frames a second
    fps = float(whole) if whole and abs(rate / whole - 1) < 1e-4 else rate
    return rotations, root, (names, parents, offsets, "y"), fps


def _moved(joint: Joint, values: Any) -> Any:
    """Positions ``(T, 3)``; zero along an axis that has no channel."""
    out = np.zeros((len(values), 3))
    for index, (axis, kind) in enumerate(joint.channels):
        if kind == "position":
            out[:, AXES.index(axis)] = values[:, index]
    return out


def _turned(joint: Joint, values: Any) -> Any:
    """Quaternions ``(T, 4)``; an axis without a channel does not turn."""
    turns = {axis: values[:, index] for index, (axis, kind) in enumerate(joint.channels) if kind == "rotation"}
    order = "".join([*turns, *(axis for axis in AXES if axis not in turns)])
    angles = np.stack([turns.get(axis, np.zeros(len(values))) for axis in order], axis=1)
    return need("pybvh.rotations", "pybvh").euler_to_quat(angles, order, degrees=True)


def encode(rotations: Any, root: Any, skeleton: Skeleton, fps: float) -> bytes:
    """Rotations ``(T, J, 4)`` and root ``(T, 3)`` -> the bytes of a file."""
    library, parts = need("pybvh", "pybvh"), need("pybvh.bvhnode", "pybvh")
    names, parents, offsets, up = skeleton
    level, order, nodes, stack = upright(up), [], [], [(0, None)]
    while stack:
        joint, parent = stack.pop()
        order.append(joint)
        name = "_".join(names[joint].split()) or f"joint{joint}"
        # Programs disagree whether the root's offset is added to its path: zero leaves no doubt.
        node = (
            parts.BvhRoot(name, [0.0] * 3, "XYZ", ORDER)
            if parent is None
            else parts.BvhJoint(name, offsets[joint].tolist(), ORDER, [], parent)
        )
        nodes.append(node)
        if parent is not None:
            parent.children.append(node)
        below = np.flatnonzero(parents == joint).tolist()
        stack += [(child, node) for child in reversed(below)]
        if not below:
            nodes.append(parts.BvhEndSite(f"End{name}", [0.0] * 3, node))
            node.children.append(nodes[-1])
    turned = np.concatenate([multiply(level, rotations[:, :1]), rotations[:, 1:]], axis=1)[:, order]
    angles = np.zeros((len(root), len(order), 3))
    file = library.Bvh(nodes, turn(level, root), angles, frame_time=1 / fps, world_up="+y")
    file.from_quat(file.root_pos, turned, inplace=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "motion.bvh")
        library.write_bvh_file(file, path)
        return path.read_bytes()
