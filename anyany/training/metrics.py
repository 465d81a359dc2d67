"""What a run tells: one JSON line per log, TensorBoard where it is installed, progress on the terminal."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from anyany.training.trackers import Tracker


class Metrics:
    """Writes metrics of a run into its folder, and shows them.

    A terminal gets a bar with the steps, the time that is left, rates and memory; a file gets a line per log.

    Args:
        folder: Of the run; ``metrics.jsonl`` is appended to.
        steps: Length of the run, for the time that is left.
        start: Step at which this process begins.
        tracker: Gets the metrics as well.
    """

    def __init__(self, folder: Path, steps: int, start: int, tracker: Tracker | None = None) -> None:
        self.file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self.steps, self.start, self.began = steps, start, time.perf_counter()
        self.board, self.tracker = _board(folder), tracker
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
        if self.tracker is not None:
            self.tracker.log(step, known)
        self._show(step, values, each)

    def _show(self, step: int, values: dict[str, float], each: float) -> None:
        """One line: values, rates, memory, time that is left; ``each`` is seconds per step."""
        shown = [f"{name} {value:.4g}" for name, value in values.items()]
        rates = [f"{1 / each:.2f} steps/s"]
        if "rows" in values:
            rates.append(f"{values['rows'] / each:.0f} rows/s")
        if (memory := peak_memory()) is not None:
            rates.append(f"{memory / 2**20:.0f} MiB")
        if self.bar is not None:
            self.bar.update(self.task, completed=step, shown="  ".join(rates + shown))
        else:
            left = f"{each * (self.steps - step) / 60:.1f} min left"
            print("  ".join([f"step {step}/{self.steps}", *shown, *rates, left]), flush=True)

    def close(self) -> None:
        """Close the files and leave the terminal."""
        self.file.close()
        if self.board is not None:
            self.board.close()
        if self.tracker is not None:
            self.tracker.close()
        if self.bar is not None:
            self.bar.stop()


def peak_memory() -> int | None:
    """Most bytes that this process has held in memory so far; ``None`` where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


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
