"""The shared library: built with the system's compiler when it is first used, then kept.

Its name in the cache holds a digest of what it was made from and one of what it is: another source, compiler or
processor makes another file, and a file that was damaged is built anew.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
SECONDS = 300
"""A compiler that takes longer hangs."""

_ARM = platform.machine().lower() in ("arm64", "aarch64")
FLAGS = (
    "-O3", "-mcpu=native" if _ARM else "-march=native", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math",
    "-fPIC", "-shared", "-pthread",
)  # fmt: skip


class BuildError(RuntimeError):
    """The library cannot be had; the message says why, and what would help."""


def shared_library(*, flags: Sequence[str] = FLAGS) -> Path:
    """The library's file, built unless an intact one is there.

    Two processes may build at once: each renames a whole file into its place.

    Args:
        flags: Of the compiler.

    Raises:
        BuildError: There is no compiler, it fails, or the cache folder cannot be written.
    """
    compiler = _compiler()
    made_from, folder = _digest_of_source(compiler, flags), cache_folder()
    try:
        for found in sorted(folder.glob(f"{made_from}-*.so")):
            if _name(made_from, found) == found.name:
                return found
            found.unlink(missing_ok=True)  # damaged
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as temporary:
            made = Path(temporary) / "native.so"
            _compile(compiler, flags, made)
            place = folder / _name(made_from, made)
            made.replace(place)
        return place
    except OSError as error:
        raise BuildError(
            f"the cache folder {folder} cannot be used ({error.strerror or error}); set XDG_CACHE_HOME to another"
        ) from None


def cache_folder() -> Path:
    """Where libraries are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anyany" / "native"


def _compiler() -> Path:
    wanted = os.environ.get("CC") or "cc"
    found = shutil.which(wanted)
    if found is None:
        raise BuildError(f"there is no C compiler {wanted!r}; install gcc or clang, or set CC to one")
    return Path(found).resolve()


def _digest_of_source(compiler: Path, flags: Sequence[str]) -> str:
    """Of the sources, the compiler's file, the flags, and what the processor can do."""
    digest = hashlib.sha256()
    for file in sorted(SOURCE.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    state = compiler.stat()
    about = (str(compiler), state.st_size, state.st_mtime_ns, tuple(flags), platform.machine(), _features())
    digest.update(repr(about).encode())
    return digest.hexdigest()[:24]


def _features() -> str:
    """The line of the system that lists the processor's instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())


def _name(made_from: str, file: Path) -> str:
    return f"{made_from}-{hashlib.sha256(file.read_bytes()).hexdigest()[:24]}.so"


def _compile(compiler: Path, flags: Sequence[str], to: Path) -> None:
    command = [str(compiler), *flags, *map(str, sorted(SOURCE.glob("*.c"))), "-o", str(to), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BuildError(f"{compiler} took longer than {SECONDS} seconds") from None
    if done.returncode or not to.is_file():
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
        raise BuildError(f"{compiler} failed: {first or f'exit code {done.returncode}'}")
