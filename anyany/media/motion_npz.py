"""Motion as npz of our own arrays, without pickle.

Shapes: T frames, J joints.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np

from anyany.errors import MediaDecodeError, MediaTooLargeError
from anyany.media.limits import Limits
from anyany.media.motion_form import Decoded, Skeleton, check_frames

KEYS = ("rotations", "root", "names", "parents", "offsets", "up", "fps")


def decode(data: bytes, limits: Limits) -> Decoded:
    """Sizes are checked before anything is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise MediaDecodeError("motion: expected an npz file; the archive is damaged") from None
    if unpacked > limits.motion_frames * limits.joints * 16:
        raise MediaTooLargeError(
            f"motion: at most {limits.motion_frames} frames of {limits.joints} joints; the file unpacks to more"
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        missing = [key for key in KEYS if key not in arrays]
        if missing:
            raise MediaDecodeError(f"motion: expected an npz with {', '.join(KEYS)}; it lacks {', '.join(missing)}")
        found = {key: arrays[key] for key in KEYS}
    rotations = np.ascontiguousarray(found["rotations"])
    check_frames(len(rotations), rotations.shape[1] if rotations.ndim > 1 else 0, limits)
    names = tuple(str(name) for name in found["names"].tolist())
    return rotations, found["root"], (names, found["parents"], found["offsets"], str(found["up"])), float(found["fps"])


def encode(rotations: Any, root: Any, skeleton: Skeleton, fps: float) -> bytes:
    """Arrays -> the bytes of a file."""
    names, parents, offsets, up = skeleton
    out = io.BytesIO()
    np.savez_compressed(
        out, rotations=rotations, root=root, names=np.array(names), parents=parents, offsets=offsets,
        up=np.array(up), fps=np.array(fps),
    )  # fmt: skip
    return out.getvalue()
