"""Builds the wheels of this folder from ``sources``: python tests/frozen/build.py NAME ...

A wheel that is there is never built again: it stands for what authors published.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def build(name: str) -> None:
    if found := list(HERE.glob(f"{name.replace('-', '_')}-*.whl")):
        raise SystemExit(f"{found[0].name} is there; a frozen wheel stays as it is. Add a source of another name")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--no-index", "-w", str(HERE), str(HERE / "sources" / name)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    for each in sys.argv[1:] or sorted(folder.name for folder in (HERE / "sources").iterdir()):
        build(each)
