"""A store of rows that were computed once: safetensors shards in a folder, found by key.

A shard gets a name of its own, is written whole, and never changes. So any number of processes may write into one
folder: each writes its own shards, and an entry that two of them hold is the same twice. A tensor is named by its
key and its seal, the SHA-256 of key, dtype, shape and bytes: the headers say what there is, and what is read is held
to what was written. Shards are mapped into memory, not read into it.
"""

from __future__ import annotations

import hashlib
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anyany.errors import DataError
from anyany.model.directory import sync

SHARD_BYTES = 64 << 20
"""Of a shard, and so of what waits in memory: large enough that a long run has few files, small enough to lose."""
ENTRY_BYTES = 256
"""Of an entry's line in the header; a shard of short rows is mostly header."""
LEFT_BEHIND = 3600.0
"""Seconds after which a temporary file belongs to a writer that was killed; one that lives takes a second."""


class Store:
    """Rows by key. What is put waits in memory until it fills a shard, or until ``flush``.

    Args:
        folder: Of the shards; it is made if need be.
        shard_bytes: How much may wait.

    Raises:
        DataError: ``folder`` cannot be a folder.
    """

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.waiting: dict[bytes, Tensor] = {}
        self.waiting_bytes = 0
        self.shards: dict[str, Any] = {}  # open shards by file name; None is one that was passed over
        self.where: dict[bytes, tuple[str, bytes]] = {}  # key -> file name, seal
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            raise DataError(f"store: {folder} is no folder and cannot be made one; choose another") from None
        for path in folder.glob("*.tmp"):
            _sweep(path)
        self.refresh()

    def __len__(self) -> int:
        """Number of keys."""
        return len(self.where.keys() | self.waiting.keys())

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Tensor]:
        """Rows of those keys that are there, bit for bit as they were put; they are not to be written to.

        Where a key is not known, shards that others have written since are looked at first.
        """
        wanted = dict.fromkeys(keys)
        if not all(key in self.waiting or key in self.where for key in wanted):
            self.refresh()
        return {key: rows for key in wanted if (rows := self._get(key)) is not None}

    def put(self, entries: Mapping[bytes, Tensor]) -> None:
        """Add entries; those of one call come into one shard, or are lost together.

        Raises:
            DataError: A shard is full and cannot be written.
        """
        own = {key: rows.detach().to("cpu", copy=True).contiguous() for key, rows in entries.items()}
        self.waiting |= own
        self.waiting_bytes += sum(rows.nbytes + ENTRY_BYTES for rows in own.values())
        if self.waiting_bytes >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what waits as a new shard.

        Raises:
            DataError: It cannot be written.
        """
        if not self.waiting:
            return
        final = self.folder / f"{uuid.uuid4().hex}.safetensors"
        temporary = final.with_suffix(".tmp")
        try:
            save_file({_name(key, _seal(key, rows)): rows for key, rows in self.waiting.items()}, temporary)
            sync(temporary)
            temporary.rename(final)
            sync(self.folder)
        except (OSError, SafetensorError) as error:
            why = getattr(error, "strerror", None) or "the disk refused"
            raise DataError(
                f"store: {self.folder} cannot be written ({why}); free some space, or train without a store"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)
        self._open(final)
        self.waiting, self.waiting_bytes = {}, 0

    def refresh(self) -> None:
        """See what other processes have written since."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self.shards:
                self._open(path)

    def _open(self, path: Path) -> None:
        try:
            shard = safe_open(path, "pt")
            # What is known stays: rows of two writers may differ in the last bits, and must not change within a run.
            self.where = {key: (path.name, seal) for key, seal in _entries(shard)} | self.where
            self.shards[path.name] = shard
        except (SafetensorError, OSError, ValueError):
            self._pass_over(path.name, "is no whole shard of a store")

    def _get(self, key: bytes) -> Tensor | None:
        if key in self.waiting:
            return self.waiting[key]
        while (found := self.where.get(key)) is not None:  # behind a damaged shard there may be another that has it
            file, seal = found
            try:
                rows = self.shards[file].get_tensor(_name(key, seal))
                if _seal(key, rows) == seal:
                    return rows
            except (SafetensorError, OSError):
                pass  # as damaged as bytes that differ
            self._pass_over(file, "is damaged")
        return None

    def _pass_over(self, file: str, why: str) -> None:
        """Never look at a shard again; entries that others hold too are found there."""
        self.shards[file] = None
        self.where = {
            key: (name, seal)
            for name, shard in self.shards.items()
            if shard is not None
            for key, seal in _entries(shard)
        }
        warnings.warn(f"store: {self.folder / file} {why}; its entries are computed anew", stacklevel=2)


def _name(key: bytes, seal: bytes) -> str:
    return f"{key.hex()}.{seal.hex()}"


def _entries(shard: Any) -> Iterator[tuple[bytes, bytes]]:
    """Keys and seals in a header.

    Raises:
        ValueError: A name is none of a store.
    """
    for name in shard.keys():  # noqa: SIM118
        key, seal = map(bytes.fromhex, name.split("."))
        yield key, seal


def _seal(key: bytes, rows: Tensor) -> bytes:
    total = hashlib.sha256(key + f"{rows.dtype} {tuple(rows.shape)}".encode())
    total.update(rows.reshape(-1).view(torch.uint8).numpy())
    return total.digest()


def _sweep(path: Path) -> None:
    """Remove a temporary file of a writer that was killed."""
    try:
        if time.time() - path.stat().st_mtime > LEFT_BEHIND:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass  # its writer has renamed it just now
