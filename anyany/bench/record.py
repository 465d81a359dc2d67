"""Figures as files: JSON with date, device and versions, and a picture of the figures beside their goals."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from anyany.bench.growth import Growth
from anyany.bench.measure import Figure
from anyany.errors import MissingPackageError, RequestError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

VERSIONS = ("anyany", "torch", "transformers", "peft", "triton", "numpy")


def write(folder: Path, measured: Sequence[Figure] | Sequence[Growth], *, rounds: int) -> tuple[Path, Path]:
    """Write ``<date>-<device>-<commit>`` as ``.json`` and ``.svg``; laws of growth are marked ``-growth``.

    Args:
        folder: It is made if need be.
        measured: What ``measure`` or ``grow`` gave.
        rounds: How many it measured.

    Returns:
        The two files.

    Raises:
        MissingPackageError: matplotlib is not installed.
        RequestError: There is nothing to write, or the folder cannot be written to.
    """
    if not measured:
        raise RequestError("bench: nothing was measured, so that there is nothing to write")
    about = describe(rounds)
    name = "-".join(_word(str(about[key])) for key in ("date", "device", "commit"))
    laws = [each for each in measured if isinstance(each, Growth)]
    picture = _slopes(laws) if laws else _goals([each for each in measured if isinstance(each, Figure)])
    stem = folder / (f"{name}-growth" if laws else name)
    files = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".svg")
    text = json.dumps({**about, "figures": [each.to_json() for each in measured]}, indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files[0].write_text(text + "\n", encoding="utf-8")
        picture.savefig(files[1], metadata={"Date": None})
    except OSError as error:
        raise RequestError(f"bench: cannot write to {folder}: {error.strerror}") from error
    return files


def describe(rounds: int) -> dict[str, Any]:
    """Date, device, commit, threads, rounds and versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{_processor()} {os.cpu_count()} cores",
        "commit": _commit(),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "versions": {name: _version(name) for name in VERSIONS},
    }


def _processor() -> str:
    """Name of the processor, as the system tells it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _commit() -> str:
    """Of the checkout that this file lies in, with a plus where files differ from it; else the version."""
    here = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*here, "diff", "--quiet", "HEAD"], capture_output=True, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return _version("anyany")
    return commit.stdout.strip() + "+" * bool(changed)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _word(text: str) -> str:
    """What a file name holds of it."""
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-")


def _picture(height: float) -> Picture:
    try:
        from matplotlib.figure import Figure as Drawn
    except ImportError:
        raise MissingPackageError(
            "bench: --out draws with matplotlib, which is not installed. Try: pip install 'anyany[bench]'"
        ) from None
    return Drawn(figsize=(8.0, height), layout="constrained")


def _goals(figures: Sequence[Figure]) -> Picture:
    """Medians and quartiles as shares of their goals, where there is one; left of 1 is missed."""
    shown = [figure for figure in figures if figure.goal][::-1]
    picture = _picture(1.0 + 0.28 * len(shown))
    axes = picture.subplots()
    for row, figure in enumerate(shown):
        low, middle, high = (value / figure.goal for value in figure.quartiles)  # type: ignore[operator]
        colour = "tab:green" if figure.reached else "tab:red"
        axes.plot([low, high], [row, row], color=colour, linewidth=3, alpha=0.4, solid_capstyle="round")
        axes.plot(middle, row, "o", color=colour)
        axes.annotate(
            f"{figure.ratio:.3g} of {figure.goal:g}", (middle, row), (6, 5), textcoords="offset points", size=7
        )
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(shown)), [figure.id for figure in shown], size=8)
    axes.set_xlabel("share of the goal: median and quartiles")
    return picture


def _slopes(laws: Sequence[Growth]) -> Picture:
    """Seconds against size, both as shares of the smallest."""
    picture = _picture(4.5)
    axes = picture.subplots()
    for law in laws:
        sizes, times = ([value / values[0] for value in values] for values in zip(*law.points, strict=True))
        axes.plot(sizes, times, "o-", label=f"{law.id}: slope {law.slope:.3g} ({law.law[0]:g} to {law.law[1]:g})")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("size, in the smallest")
    axes.set_ylabel("time, in that of the smallest")
    axes.legend(fontsize=7)
    return picture
