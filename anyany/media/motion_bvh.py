"""Motion as BVH (Biovision hierarchy), by pybvh.

End Sites become joints that never turn, unless they lie on their joint: those are the ones that we write, because
BVH asks for one below every leaf. BVH names no axis that points up; y does by custom. Joints come back depth first.

Shapes: T frames, J joints.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from anyany.media.kinematics import multiply, turn, upright
from anyany.media.limits import Limits
from anyany.media.motion_form import Decoded, Skeleton, check_frames
from anyany.media.packages import need

ORDER = "ZXY"
"""Euler order of the files that we write; every order is read."""


def decode(data: bytes, limits: Limits) -> Decoded:
    """The clip of a file."""
    library = need("pybvh", "pybvh")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "motion.bvh")  # pybvh reads paths only
        path.write_bytes(data.removeprefix(b"\xef\xbb\xbf"))
        file = library.read_bvh_file(path, world_up="+y")
    nodes = [node for node in file.nodes if not node.is_end_site() or np.any(node.offset)]
    check_frames(file.frame_count, len(nodes), limits)
    root, turns = file.to_quat()
    rotations = np.zeros((len(root), len(nodes), 4), np.float32)
    rotations[..., 0] = 1.0
    rotations[:, [i for i, node in enumerate(nodes) if not node.is_end_site()]] = turns
    place = {id(node): index for index, node in enumerate(nodes)}
    parents = np.array([-1 if node.parent is None else place[id(node.parent)] for node in nodes])
    skeleton = (tuple(node.name for node in nodes), parents, np.stack([node.offset for node in nodes]), "y")
    return rotations, root, skeleton, file.fps


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
