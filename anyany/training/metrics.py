"""What a run tells: one JSON line per log, TensorBoard where it is installed, a line on the terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class Metrics:
    """Writes metrics of a run into its folder.

    Args:
        folder: Of the run; ``metrics.jsonl`` is appended to.
        steps: Length of the run, for the time that is left.
        start: Step at which this process begins.
    """

    def __init__(self, folder: Path, steps: int, start: int) -> None:
        self.file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self.steps, self.start, self.began = steps, start, time.perf_counter()
        self.board = _board(folder)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Record values after ``step`` steps."""
        spent = time.perf_counter() - self.began
        each = spent / max(step - self.start, 1)
        left = each * (self.steps - step)
        self.file.write(json.dumps({"step": step, "seconds": round(spent, 2), **values}) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"step {step}/{self.steps}  {shown}  {1 / each:.2f} steps/s  {left / 60:.1f} min left", flush=True)

    def close(self) -> None:
        """Close the files."""
        self.file.close()
        if self.board is not None:
            self.board.close()


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
