"""Checkpoints of a run: everything that a restart needs, written so that no crash can spoil the last one.

``step-00000123/`` holds ``tensors.safetensors``, ``state.json`` and ``MANIFEST.json`` (size and SHA-256 of
the others). Where the backbone is in shards, each rank writes its own ``tensors-00001-of-00002.safetensors``: a
tensor in several files is cut along its first axis, in the order of the manifest.

It is written as ``step-00000123.tmp``, synced, then renamed: a directory without ``.tmp`` is whole. One that is
being replaced is ``step-00000123.old`` until the new one stands. ``latest`` is a text file with the name of the
newest one, for people and scripts; loading looks at the directories themselves.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from anyany.errors import CheckpointError
from anyany.model.directory import sync
from anyany.training.distributed import ALONE, World

FORMAT = 3
TENSORS, STATE, MANIFEST, LATEST = "tensors.safetensors", "state.json", "MANIFEST.json", "latest"
_NAME = re.compile(r"step-(\d{8,})(\.old)?")


@dataclass(frozen=True)
class Step:
    """What was saved.

    Attributes:
        step: Number of the step.
        tensors: By name, on the CPU, bit for bit.
        state: The JSON object.
    """

    step: int
    tensors: Mapping[str, Tensor]
    state: dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """A state at one moment, which training no longer changes.

    Attributes:
        step: Number of the step.
        tensors: By name, copies of their own on the CPU.
        text: The JSON object.
    """

    step: int
    tensors: dict[str, Tensor]
    text: str


def snapshot(step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Snapshot:
    """Copy a state, so that it can be written while training goes on.

    Args:
        step: Number of the step.
        tensors: By name: weights, optimiser state, random generators as uint8.
        state: Whatever JSON can hold.

    Raises:
        CheckpointError: ``step`` is below 0, or ``state`` is not JSON.
    """
    if step < 0:
        raise CheckpointError(f"training checkpoint: expected step >= 0, got {step}")
    try:
        text = json.dumps(dict(state), indent=1, allow_nan=False)
    except (TypeError, ValueError):
        raise CheckpointError(
            "training checkpoint: the state must be JSON: text, finite numbers, lists, objects"
        ) from None
    # Views of one storage are cloned as well: safetensors refuses shared memory.
    return Snapshot(step, {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}, text)


def write(folder: Path, saved: Snapshot, *, keep: int = 2, world: World = ALONE) -> Path:
    """Write a checkpoint; older ones go only after this one is safe on the disk.

    Args:
        folder: Of the run; it is made if need be.
        saved: What to write; a checkpoint of the same step is replaced.
        keep: How many of the newest stay, this one included.
        world: The ranks that write one checkpoint together, each what is its own.

    Returns:
        The directory.

    Raises:
        CheckpointError: ``keep`` is below 1, or the system refuses to write; the checkpoint before is whole then. All
            ranks raise alike.
        DistributedError: A rank has ended.
    """
    if keep < 1:
        raise CheckpointError(f"training checkpoint: expected keep >= 1, got {keep}")
    final = folder / f"step-{saved.step:08d}"
    temporary = final.with_name(final.name + ".tmp")
    name = TENSORS if world.size == 1 else f"tensors-{world.rank + 1:05}-of-{world.size:05}.safetensors"
    try:
        _on_all(world, lambda: _begin(temporary) if world.first else None)
        parts = _on_all(world, lambda: _fill(temporary / name, saved.tensors))
        _on_all(world, lambda: _finish(temporary, final, saved, parts) if world.first else None)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)  # half a checkpoint on a full disk keeps it full
        raise CheckpointError(
            f"training checkpoint of step {saved.step}: cannot be written to {folder}: {_reason(error)}; the one "
            "before it is whole: make room or give access, then run the same command"
        ) from error
    if world.first:
        _retain(folder, keep)
    return final


def _on_all(world: World, work: Callable[[], Any]) -> list[Any]:
    """What each rank makes; the failure of one is that of all."""
    made: Any = None
    failure: Exception | None = None
    try:
        made = work()
    except (OSError, SafetensorError) as error:
        failure = error
    told = world.gather([made, None if failure is None else _reason(failure)])
    if failure is not None:
        raise failure
    for rank, (_, reason) in enumerate(told):
        if reason is not None:
            raise OSError(0, f"rank {rank}: {reason}")
    return [each for each, _ in told]


def _begin(temporary: Path) -> None:
    temporary.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()


def _fill(file: Path, tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """Write and sync one file of tensors; its name and description."""
    save_file(dict(tensors), file)
    sync(file)
    return file.name, _describe(file)


def _finish(temporary: Path, final: Path, saved: Snapshot, parts: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """State and manifest beside the tensors; then the directory gets its name."""
    (temporary / STATE).write_text(saved.text + "\n", encoding="utf-8")
    files = {**dict(parts), STATE: _describe(temporary / STATE)}
    manifest = {"format": FORMAT, "step": saved.step, "files": files}
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for name in (STATE, MANIFEST):
        sync(temporary / name)
    sync(temporary)
    if final.exists():
        old = final.with_name(final.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    temporary.rename(final)
    sync(final.parent)
    _write_latest(final.parent, final.name)


def _reason(error: Exception) -> str:
    """What the system said, or what kind of error it was."""
    return error.strerror if isinstance(error, OSError) and error.strerror else "the system refused to write a file"


def load_latest(folder: Path) -> Step | None:
    """Read the newest checkpoint that is whole.

    A damaged one is passed over with a warning that names it, and the one before it is taken.

    Returns:
        The checkpoint, or ``None`` where there is none at all: the run starts at step 0.

    Raises:
        CheckpointError: There are checkpoints, and every one is damaged.
    """
    found = _steps(folder)
    for path in reversed(found):
        try:
            return load_step(path)
        except CheckpointError as error:
            warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
    if found:
        raise CheckpointError(f"{folder}: all {len(found)} training checkpoints are damaged; start a new run")
    return None


def load_step(path: Path) -> Step:
    """Read one checkpoint and hold it to its manifest.

    Raises:
        CheckpointError: A file is missing or differs from the manifest, or the format is another.
    """
    manifest = _object(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected format {FORMAT}, got {manifest.get('format')!r}")
    files, step = manifest.get("files"), manifest.get("step")
    if not isinstance(files, dict) or STATE not in files or len(files) < 2 or not isinstance(step, int):
        raise CheckpointError(f"{path}: {MANIFEST} does not name the step and its files")
    for name, told in files.items():
        if Path(name).name != name:
            raise CheckpointError(f"{path}: {MANIFEST} names {name!r}, which is no file of this folder")
        try:
            got = _describe(path / name)
        except OSError:
            raise CheckpointError(f"{path}: {name} is missing or cannot be read") from None
        if got != told:
            raise CheckpointError(f"{path}: {name} differs from {MANIFEST}: expected {told}, got {got}")
    tensors = Joined([_tensors(path / name) for name in files if name != STATE])
    return Step(step, tensors, _object(path / STATE))


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError):
        raise CheckpointError(f"{file.parent}: {file.name} is not a safetensors file") from None


class Joined(Mapping[str, Tensor]):
    """Tensors of several files; one that is cut is put together each time that it is asked for, and not before.

    Args:
        files: Tensors by name. Pieces of one tensor follow each other along its first axis.
    """

    def __init__(self, files: Sequence[Mapping[str, Tensor]]) -> None:
        self.pieces: dict[str, list[Tensor]] = {}
        for file in files:
            for name, piece in file.items():
                self.pieces.setdefault(name, []).append(piece)

    def __getitem__(self, name: str) -> Tensor:
        pieces = self.pieces[name]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def __iter__(self) -> Iterator[str]:
        return iter(self.pieces)

    def __len__(self) -> int:
        return len(self.pieces)


def _describe(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _steps(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first; a replaced one stands before the one that replaces it."""
    if not folder.is_dir():
        return []
    found = ((m, path) for path in folder.iterdir() if (m := _NAME.fullmatch(path.name)) and path.is_dir())
    return [path for _, _, path in sorted((int(match[1]), match[2] is None, path) for match, path in found)]


def _write_latest(folder: Path, name: str) -> None:
    temporary = folder / f"{LATEST}.tmp"
    temporary.write_text(name + "\n", encoding="utf-8")
    sync(temporary)
    temporary.replace(folder / LATEST)
    sync(folder)


def _retain(folder: Path, keep: int) -> None:
    """Remove all but the newest, and what interrupted saves left."""
    replaced = set(folder.glob("step-*.old"))
    kept = [path for path in _steps(folder) if path not in replaced]
    for path in [*kept[:-keep], *replaced, *folder.glob("step-*.tmp")]:
        shutil.rmtree(path, ignore_errors=True)


def _object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(f"{path.parent}: {path.name} is missing or is not JSON") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path.parent}: {path.name} must hold a JSON object")
    return data
