"""Directories of files that belong together: written whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from anyany.errors import CheckpointError


def write_directory(path: Path, write: Callable[[Path], None], ours: Callable[[Path], bool]) -> None:
    """Write a directory beside its place, sync it, then rename it; what was there goes once the new one stands.

    Args:
        path: The directory; it must not exist, be empty, or be one of ours.
        write: Writes the files into the folder that it is given.
        ours: Whether an existing directory may be replaced.

    Raises:
        CheckpointError: ``path`` holds something else, or cannot be written.
    """
    path = path.absolute()
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or ours(path))):
        raise CheckpointError(f"{path}: expected a new directory or a checkpoint, found other files; choose another")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            write(temporary)
            for file in temporary.iterdir():
                file.chmod(0o644)
                sync(file)
            temporary.chmod(0o755)
            sync(temporary)
            _swap(temporary, path)
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or "the disk refused"
        raise CheckpointError(
            f"{path}: cannot be written ({why}); free some space, or choose another folder"
        ) from error


def _swap(temporary: Path, path: Path) -> None:
    old = None
    if path.exists():
        old = path.with_name(f".{path.name}.old-{os.getpid()}")
        path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        if old is not None:
            old.rename(path)
        raise
    if old is not None:
        shutil.rmtree(old)


def sync(path: Path) -> None:
    """Have a file, or the entries of a directory, written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
