"""Motion files: the content decides who reads them; the suffix decides who writes them.

Shapes: T frames, J joints.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from anyany.errors import AnyanyError, EmptyMediaError, MediaDecodeError, MediaTooLargeError, UnsupportedMediaError
from anyany.media.limits import DEFAULT, Limits
from anyany.media.packages import check_size

Skeleton = tuple[tuple[str, ...], Any, Any, str]
"""Names, parents ``(J,)``, offsets ``(J, 3)``, the axis that points up."""
Decoded = tuple[Any, Any, Skeleton, float]
"""Rotations ``(T, J, 4)``, root ``(T, 3)``, skeleton, fps."""

FORMATS = {"npz": "motion_npz", "bvh": "motion_bvh", "glb": "motion_gltf"}


def decode(data: bytes, clip: str | None = None, limits: Limits = DEFAULT) -> Decoded:
    """Bytes of an npz, BVH or glb file -> rotations, root, skeleton, fps.

    Args:
        data: The file.
        clip: Which of its clips; needed where a glb file has several.
        limits: Upper limits.

    Raises:
        MediaError: Of another format, damaged, empty, too large, or without that clip.
    """
    format = _format(data, limits)
    module = import_module(f"anyany.media.{FORMATS[format]}")
    if format == "glb":
        return _read(format, module.decode, data, clip, limits)
    if clip is not None:
        raise MediaDecodeError(f"motion: a {format} file holds one clip without a name; leave out clip={clip!r}")
    return _read(format, module.decode, data, limits)


def clips(data: bytes, limits: Limits = DEFAULT) -> tuple[str, ...]:
    """Names of the clips of a glb file; the other formats hold one that has no name, hence none.

    Raises:
        MediaError: As for ``decode``.
    """
    from anyany.media import motion_gltf

    return _read("glb", motion_gltf.clips, data, limits) if _format(data, limits) == "glb" else ()


def encode(rotations: Any, root: Any, skeleton: Skeleton, fps: float, format: str) -> bytes:
    """Arrays -> the bytes of a file."""
    if format not in FORMATS:
        raise UnsupportedMediaError(f"motion: cannot write {format!r}; choose {', '.join(FORMATS)}")
    return import_module(f"anyany.media.{FORMATS[format]}").encode(rotations, root, skeleton, fps)


def check_frames(frames: float, joints: int, limits: Limits) -> None:
    """Refuse a motion that is too long or has too many joints."""
    if not (frames <= limits.motion_frames and joints <= limits.joints):
        raise MediaTooLargeError(
            f"motion: at most {limits.motion_frames} frames of {limits.joints} joints, got {frames:g} of {joints}"
        )


def _format(data: bytes, limits: Limits) -> str:
    check_size("motion", data, limits)
    if not data:
        raise EmptyMediaError("motion: expected a file, got no bytes")
    if data[:2] == b"PK":
        return "npz"
    if data[:4] == b"glTF":
        return "glb"
    if data[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"HIERARCHY"):
        return "bvh"
    raise UnsupportedMediaError(f"motion: expected a file of type {', '.join(FORMATS)}; the bytes are none of them")


def _read(format: str, reader: Any, *args: Any) -> Any:
    try:
        return reader(*args)
    except AnyanyError:
        raise
    except Exception:  # what a library raises on damaged bytes has no common type
        raise MediaDecodeError(f"motion: the {format} file is damaged, or not what it claims to be") from None
