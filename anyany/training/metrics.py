"""What a run tells: one JSON line per log, TensorBoard where it is installed, progress on the terminal."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Metrics:
    """Writes metrics of a run into its folder, and shows them.

    A terminal gets a bar with the steps, the rate and the time that is left; a file gets a line per log.

    Args:
        folder: Of the run; ``metrics.jsonl`` is appended to.
        steps: Length of the run, for the time that is left.
        start: Step at which this process begins.
    """

    def __init__(self, folder: Path, steps: int, start: int) -> None:
        self.file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self.steps, self.start, self.began = steps, start, time.perf_counter()
        self.board = _board(folder)
        console = Console()
        self.bar = _bar(console) if console.is_terminal else None
        if self.bar is not None:
            self.task = self.bar.add_task("step", total=steps, completed=start, shown="")
            self.bar.start()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Record values after ``step`` steps."""
        spent = time.perf_counter() - self.began
        each = spent / max(step - self.start, 1)
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        self.file.write(json.dumps({"step": step, "seconds": round(spent, 2), **known}) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self.bar is not None:
            self.bar.update(self.task, completed=step, shown=f"{1 / each:.2f} steps/s  {shown}")
        else:
            left = each * (self.steps - step) / 60
            print(f"step {step}/{self.steps}  {shown}  {1 / each:.2f} steps/s  {left:.1f} min left", flush=True)

    def close(self) -> None:
        """Close the files and leave the terminal."""
        self.file.close()
        if self.board is not None:
            self.board.close()
        if self.bar is not None:
            self.bar.stop()


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"), MofNCompleteColumn(), BarColumn(30), TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
    )  # fmt: skip
    return Progress(*columns, console=console)


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
