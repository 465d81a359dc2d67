"""Motion files: the content decides who reads them; the suffix decides who writes them.

Shapes: T frames, J joints.
"""

from __future__ import annotations

from typing import Any

from anyany.errors import AnyanyError, EmptyMediaError, MediaDecodeError, UnsupportedMediaError
from anyany.media import motion_bvh, motion_gltf, motion_npz
from anyany.media.limits import DEFAULT, Limits
from anyany.media.motion_form import Decoded, Skeleton
from anyany.media.packages import check_size

FORMATS: dict[str, Any] = {"npz": motion_npz, "bvh": motion_bvh, "glb": motion_gltf}


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
    if format == "glb":
        return _read(format, motion_gltf.decode, data, clip, limits)
    if clip is not None:
        raise MediaDecodeError(f"motion: a {format} file holds one clip without a name; leave out clip={clip!r}")
    return _read(format, FORMATS[format].decode, data, limits)


def clips(data: bytes, limits: Limits = DEFAULT) -> tuple[str, ...]:
    """Names of the clips of a glb file; the other formats hold one that has no name, hence none.

    Raises:
        MediaError: As for ``decode``.
    """
    return _read("glb", motion_gltf.clips, data, limits) if _format(data, limits) == "glb" else ()


def encode(rotations: Any, root: Any, skeleton: Skeleton, fps: float, format: str) -> bytes:
    """Arrays -> the bytes of a file."""
    if format not in FORMATS:
        raise UnsupportedMediaError(f"motion: cannot write {format!r}; choose {', '.join(FORMATS)}")
    return FORMATS[format].encode(rotations, root, skeleton, fps)


def _format(data: bytes, limits: Limits) -> str:
    check_size("motion", data, limits)
    if not data:
        raise EmptyMediaError("motion: expected a file, got no bytes")
    if data[:2] == b"PK":
        return "npz"
    if data[:4] == b"glTF":
        return "glb"
    if bytes(data[:4096]).removeprefix(b"\xef\xbb\xbf").lstrip().upper().startswith(b"HIERARCHY"):
        return "bvh"
    raise UnsupportedMediaError(f"motion: expected a file of type {', '.join(FORMATS)}; the bytes are none of them")


def _read(format: str, reader: Any, *args: Any) -> Any:
    try:
        return reader(*args)
    except AnyanyError:
        raise
    except Exception:  # what a library raises on damaged bytes has no common type
        raise MediaDecodeError(f"motion: the {format} file is damaged, or not what it claims to be") from None
