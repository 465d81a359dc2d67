"""Motion: npz of our own arrays, without pickle.

Shapes: T frames, J joints.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaTooLargeError, UnsupportedMediaError
from anyany.media.limits import DEFAULT, Limits
from anyany.media.packages import check_size

Skeleton = tuple[tuple[str, ...], Any, Any, str]
Decoded = tuple[Any, Any, Skeleton, float]
KEYS = ("rotations", "root", "names", "parents", "offsets", "up", "fps")


def decode(data: bytes, limits: Limits = DEFAULT) -> Decoded:
    """Bytes -> rotations ``(T, J, 4)``, root ``(T, 3)``, (names, parents, offsets, up), fps.

    Raises:
        MediaError: Not npz, damaged, empty, or too large. Sizes are checked before anything is unpacked.
    """
    check_size("motion", data, limits)
    if not data:
        raise EmptyMediaError("motion: expected a file, got no bytes")
    if data[:2] != b"PK":
        raise UnsupportedMediaError("motion: expected an npz file; the bytes are none")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > limits.motion_frames * limits.joints * 16:
            raise MediaTooLargeError(f"motion: at most {limits.motion_frames} frames of {limits.joints} joints")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in KEYS}
    except MediaTooLargeError:
        raise
    except Exception:
        raise MediaDecodeError(f"motion: expected an npz with {', '.join(KEYS)}; it lacks one or is damaged") from None
    rotations = np.ascontiguousarray(found["rotations"])
    if len(rotations) > limits.motion_frames or rotations.ndim != 3 or rotations.shape[1] > limits.joints:
        raise MediaTooLargeError(f"motion: at most {limits.motion_frames} frames of {limits.joints} joints")
    names = tuple(str(name) for name in found["names"].tolist())
    skeleton = (names, found["parents"], found["offsets"], str(found["up"]))
    return rotations, found["root"], skeleton, float(found["fps"])


def encode(rotations: Any, root: Any, skeleton: Skeleton, fps: float, format: str) -> bytes:
    """Arrays -> the bytes of a file."""
    if format != "npz":
        raise UnsupportedMediaError(f"motion: cannot write {format!r}; choose npz")
    names, parents, offsets, up = skeleton
    out = io.BytesIO()
    np.savez_compressed(
        out, rotations=rotations, root=root, names=np.array(names), parents=parents, offsets=offsets,
        up=np.array(up), fps=np.array(fps),
    )  # fmt: skip
    return out.getvalue()
