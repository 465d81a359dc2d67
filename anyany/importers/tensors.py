"""Tensors of a Hugging Face directory: safetensors, one file or several with an index. Memory-mapped, no pickle."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from anyany.errors import CheckpointError
from anyany.model.checkpoint import read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Tensors:
    """Names, shapes and contents; use it as a context, which closes the files.

    Args:
        folder: Holds ``model.safetensors``, or shards and ``model.safetensors.index.json``.
        base: Begins the names of a model; a file of which none does is read as if all did.
        renamed: Beginnings of names as other versions write them -> as they are asked for; tried in order, each on
            what the one before it made.

    Raises:
        CheckpointError: A file is missing or damaged, or the weights are pickled.
    """

    def __init__(self, folder: Path, base: str = "", renamed: Sequence[tuple[str, str]] = ()) -> None:
        self._open = ExitStack()
        self._files: dict[Path, Any] = {}  # open
        self._where: dict[str, tuple[Path, str]] = {}  # tensor -> the file that holds it, and its name there
        try:
            for file, listed in _files(folder).items():
                self._add(folder / file, listed)
        except BaseException:
            self._open.close()
            raise
        self._where = self._renamed(renamed)
        if not any(name.startswith(base) for name in self._where):
            self._where = {base + name: place for name, place in self._where.items()}

    def __enter__(self) -> Tensors:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def names(self) -> frozenset[str]:
        """All tensors of the directory."""
        return frozenset(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor; reads no data."""
        file, inner = self._where[name]
        return tuple(self._files[file].get_slice(inner).get_shape())

    def __getitem__(self, name: str) -> Tensor:
        """A tensor that lies in the mapped file; copy what is to outlive the context."""
        file, inner = self._where[name]
        return self._files[file].get_tensor(inner)

    def release(self) -> None:
        """Let go of the memory that what was read is mapped to; tensors that were given out must not be held."""
        self._open.close()
        self._files = {file: self._map(file) for file in self._files}

    def _renamed(self, pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[Path, str]]:
        out: dict[str, tuple[Path, str]] = {}
        for name, place in self._where.items():
            new = name
            for old, known in pairs:
                new = known + new.removeprefix(old) if new.startswith(old) else new
            if new in out:
                raise CheckpointError(f"checkpoint: {name!r} and {out[new][1]!r} are names of one tensor; keep one")
            out[new] = place
        return out

    def _add(self, file: Path, listed: set[str] | None) -> None:
        """Open a file; ``listed`` is what the index says that it holds."""
        if not file.is_file():
            raise CheckpointError(f"{file.name}: expected in {file.parent}, not found; copy the checkpoint again")
        self._files[file] = self._map(file)
        held = set(self._files[file].keys())
        for name in sorted(set() if listed is None else held ^ listed):
            fault = "has a tensor that the index does not list" if name in held else "lacks a tensor of the index"
            raise CheckpointError(f"{file.name}: {fault}: {name!r}; copy the checkpoint again")
        self._where.update({name: (file, name) for name in held})

    def _map(self, file: Path) -> Any:
        try:
            return self._open.enter_context(safe_open(file, framework="pt", device="cpu"))
        except (SafetensorError, OSError):
            raise CheckpointError(f"{file.name}: is damaged; copy the checkpoint again") from None


def _files(folder: Path) -> dict[str, set[str] | None]:
    """Files to open, each with the tensors that the index puts there."""
    if (folder / SINGLE).exists():
        return {SINGLE: None}
    if not (folder / INDEX).exists():
        pickled = sorted(file.name for kind in ("*.bin", "*.pt", "*.pth") for file in folder.glob(kind))
        if pickled:
            raise CheckpointError(
                f"{folder}: expected safetensors, found only pickled weights ({pickled[0]}), which may run code and "
                "are not read; convert them with save_pretrained(..., safe_serialization=True)"
            )
        raise CheckpointError(f"{folder}: expected {SINGLE} or {INDEX}, found neither")
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{INDEX}: expected a weight_map from tensors to files")
    files: dict[str, set[str] | None] = {}
    for name, file in places.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(f"{INDEX}: {name!r} must lie in a file of the directory, got {file!r}")
        listed = files.setdefault(file, set())
        if listed is not None:
            listed.add(name)
    return files
