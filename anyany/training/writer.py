"""Checkpoints are written by a thread while training goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from anyany.training import checkpoint
from anyany.training.checkpoint import Snapshot


class Writer:
    """Writes one checkpoint at a time; the next one waits for it.

    The snapshot is taken before, by the thread that trains. While one is being written there is one copy of the
    state in memory, never two.

    Args:
        folder: Of the run.
        keep: How many of the newest checkpoints stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self.coming: Future[Path] | None = None

    def write(self, saved: Snapshot) -> None:
        """Begin to write; ``wait`` must have been called since the last one."""
        self.coming = self.pool.submit(checkpoint.write, self.folder, saved, keep=self.keep)

    def check(self) -> None:
        """Raise the error of a checkpoint that could not be written, if it is known by now.

        Raises:
            CheckpointError: As of ``checkpoint.write``.
        """
        if self.coming is not None and self.coming.done():
            self.wait()

    def wait(self) -> None:
        """Until what was begun is on the disk.

        Raises:
            CheckpointError: It could not be written.
        """
        coming, self.coming = self.coming, None
        if coming is not None:
            coming.result()

    def close(self) -> None:
        """Wait for the thread, whatever became of its work."""
        self.pool.shutdown()
