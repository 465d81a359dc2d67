"""Writes one clip as a glTF 2.0 binary file: a skin of joints, a rotation channel each, and the root's path."""

from __future__ import annotations

from typing import Any

import numpy as np

from anyany.media.kinematics import multiply, turn, upright
from anyany.media.motion_form import Skeleton
from anyany.media.packages import need

FLOAT = 5126


def encode(rotations: Any, root: Any, skeleton: Skeleton, fps: float) -> bytes:
    """Rotations ``(T, J, 4)`` and root ``(T, 3)`` -> the bytes of a file. In glTF y points up."""
    library = need("pygltflib", "pygltflib")
    names, parents, offsets, up = skeleton
    level = upright(up)
    root, offset = turn(level, root), turn(level, offsets[0])
    rotations = np.concatenate([multiply(level, rotations[:, :1]), rotations[:, 1:]], axis=1)
    turns = rotations[..., [1, 2, 3, 0]].astype("<f4")  # glTF writes (x, y, z, w)
    gltf = library.GLTF2(asset=library.Asset(version="2.0", generator="anyany"))
    for joint, name in enumerate(names):
        gltf.nodes.append(
            library.Node(
                name=name,
                translation=(offset if joint == 0 else offsets[joint]).tolist(),
                rotation=turns[0, joint].tolist(),
                children=np.flatnonzero(parents == joint).tolist(),
            )
        )
    gltf.scenes, gltf.scene = [library.Scene(nodes=[0])], 0
    gltf.skins = [library.Skin(joints=list(range(len(names))), skeleton=0)]

    blob = bytearray()
    times = _add(library, gltf, blob, (np.arange(len(root)) / fps)[:, None], "SCALAR")
    clip = library.Animation(name="motion", extras={"fps": fps})
    _channel(library, clip, 0, "translation", times, _add(library, gltf, blob, root, "VEC3"))
    for joint in range(len(names)):
        _channel(library, clip, joint, "rotation", times, _add(library, gltf, blob, turns[:, joint], "VEC4"))
    gltf.animations = [clip]
    gltf.buffers = [library.Buffer(byteLength=len(blob))]
    gltf.set_binary_blob(bytes(blob))
    return b"".join(gltf.save_to_bytes())


def _add(library: Any, gltf: Any, blob: bytearray, values: Any, kind: str) -> int:
    """Append an array of floats; its accessor's index."""
    values = np.ascontiguousarray(values, "<f4")
    gltf.bufferViews.append(library.BufferView(buffer=0, byteOffset=len(blob), byteLength=values.nbytes))
    accessor = library.Accessor(bufferView=len(gltf.bufferViews) - 1, componentType=FLOAT, count=len(values), type=kind)
    accessor.min, accessor.max = values.min(axis=0).tolist(), values.max(axis=0).tolist()
    gltf.accessors.append(accessor)
    blob += values.tobytes()
    return len(gltf.accessors) - 1


def _channel(library: Any, clip: Any, node: int, path: str, times: int, values: int) -> None:
    clip.samplers.append(library.AnimationSampler(input=times, output=values, interpolation="LINEAR"))
    target = library.AnimationChannelTarget(node=node, path=path)
    clip.channels.append(library.AnimationChannel(sampler=len(clip.samplers) - 1, target=target))
