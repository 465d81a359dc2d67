"""Checkpoints of a run: everything that a restart needs, written so that no crash can spoil the last one.

``step-00000123/`` holds ``tensors.safetensors``, ``state.json`` and ``MANIFEST.json`` (size and SHA-256 of
the others). It is written as ``step-00000123.tmp``, synced, then renamed: a directory without ``.tmp`` is
whole. One that is being replaced is ``step-00000123.old`` until the new one stands. ``latest`` is a text
file with the name of the newest one, for people and scripts; loading looks at the directories themselves.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from anyany.errors import CheckpointError
from anyany.model.directory import sync
from anyany.training.sharding import split, whole

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
    tensors: dict[str, Tensor]
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


def write(folder: Path, saved: Snapshot, *, keep: int = 2) -> Path:
    """Write a checkpoint; older ones go only after this one is safe on the disk.

    Args:
        folder: Of the run; it is made if need be.
        saved: What to write; a checkpoint of the same step is replaced.
        keep: How many of the newest stay, this one included.

    Returns:
        The directory.

    Raises:
        CheckpointError: ``keep`` is below 1, or the system refuses to write; the checkpoint before is whole then.
    """
    if keep < 1:
        raise CheckpointError(f"training checkpoint: expected keep >= 1, got {keep}")
    final = folder / f"step-{saved.step:08d}"
    temporary = final.with_name(final.name + ".tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _fill(temporary, saved)
        if final.exists():
            old = final.with_name(final.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        temporary.rename(final)
        sync(folder)
        _write_latest(folder, final.name)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)  # half a checkpoint on a full disk keeps it full
        raise CheckpointError(
            f"training checkpoint of step {saved.step}: cannot be written to {folder}: {_reason(error)}; the one "
            "before it is whole: make room or give access, then run the same command"
        ) from error
    _retain(folder, keep)
    return final


def _fill(folder: Path, saved: Snapshot) -> None:
    """Write and sync the three files of a checkpoint."""
    save_file(saved.tensors, folder / TENSORS)
    (folder / STATE).write_text(saved.text + "\n", encoding="utf-8")
    files = {name: _describe(folder / name) for name in (TENSORS, STATE)}
    manifest = {"format": FORMAT, "step": saved.step, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for name in (*files, MANIFEST):
        sync(folder / name)
    sync(folder)


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
    if not isinstance(files, dict) or not {TENSORS, STATE} <= set(files) or not isinstance(step, int):
        raise CheckpointError(f"{path}: {MANIFEST} does not name the step and its files")
    for name in (TENSORS, STATE):
        try:
            got = _describe(path / name)
        except OSError:
            raise CheckpointError(f"{path}: {name} is missing or cannot be read") from None
        if got != files[name]:
            raise CheckpointError(f"{path}: {name} differs from {MANIFEST}: expected {files[name]}, got {got}")
    try:
        tensors = load_file(path / TENSORS)
    except (SafetensorError, OSError):
        raise CheckpointError(f"{path}: {TENSORS} is not a safetensors file") from None
    return Step(step, tensors, _object(path / STATE))


def pack_optimizer(optimizer: torch.optim.Optimizer, prefix: str = "optimizer.") -> dict[str, Tensor]:
    """Tensors of an optimiser's state by name, ``optimizer.<parameter>.<key>``; bit for bit.

    Those of parameters in shards are gathered, for which all ranks ask.
    """
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}{index}.{key}": whole(torch.as_tensor(value))
        for index, of in state.items()
        for key, value in of.items()
    }


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str = "optimizer."
) -> None:
    """Put back what ``pack_optimizer`` took; groups and their rates stay as the recipe built them.

    Raises:
        CheckpointError: The tensors belong to another set of parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            index, key = name.removeprefix(prefix).split(".", 1)
            shape = tuple(parameters[int(index)].shape) if int(index) < len(parameters) else None
            if shape is None or (value.dim() and tuple(value.shape) != shape):
                raise CheckpointError(f"optimiser: {name} has shape {tuple(value.shape)}, the parameter has {shape}")
            state.setdefault(int(index), {})[key] = (
                split(value.clone(), parameters[int(index)]) if value.dim() else value.clone()
            )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


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
