"""Media libraries are imported on first use, and named when they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from anyany.errors import MediaDecodeError, MediaTooLargeError, MissingPackageError
from anyany.media.limits import Limits


def need(module: str, package: str) -> Any:
    """Import a media library.

    Raises:
        MissingPackageError: It is not installed, or does not load.
    """
    try:
        return import_module(module)
    except ImportError:
        raise MissingPackageError(
            f"media: {package} is needed and not installed. Try: pip install 'anyany[media]'"
        ) from None


def check_size(modality: str, data: bytes, limits: Limits) -> None:
    """Refuse what is no file, or one that is too large, before anything reads it."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise MediaDecodeError(f"{modality}: expected the bytes of a file, got {type(data).__name__}")
    if len(data) > limits.bytes:
        raise MediaTooLargeError(f"{modality}: a file may have {limits.bytes} bytes, this one has {len(data)}")
