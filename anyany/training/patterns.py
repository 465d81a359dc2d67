"""Files by name, folder or pattern: ``data/*.tar``, ``data/{000..015}.tar``, ``{train,extra}.parquet``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from anyany.errors import DataError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST = 1_000_000
"""Names that one pattern may stand for."""


def matching(path: str | Sequence[str], ending: str) -> list[Path]:
    """All files that a path stands for, without doubles; those of a folder or of ``*`` in the order of their names.

    Args:
        path: A file, a folder, a pattern with ``*`` or braces, or a list of these.
        ending: Suffix of the files that count in a folder, such as ``.tar``.

    Raises:
        DataError: A file is not there, or a pattern or folder holds none.
    """
    found: list[Path] = []
    for one in [path] if isinstance(path, str) else path:
        for name in expanded(one):
            files = sorted(Path(name).glob(f"*{ending}")) if Path(name).is_dir() else [Path(name)]
            if not Path(name).exists():
                files = sorted(map(Path, glob(name, recursive=True)))
            if not files:
                raise DataError(f"data: {name} stands for no file that ends in {ending}; check the path")
            found.extend(files)
    return list(dict.fromkeys(found))


def expanded(pattern: str) -> list[str]:
    """Braces spelt out: ``{08..10}`` counts, ``{a,b}`` lists; in the order they are written in.

    Raises:
        DataError: It stands for more than a million names.
    """
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    ends = _RANGE.fullmatch(braces[1])
    if ends and int(ends[2]) - int(ends[1]) >= MOST:
        raise DataError(f"data: {pattern} stands for more than {MOST:,} names")
    middles = [f"{n:0{len(ends[1])}}" for n in range(int(ends[1]), int(ends[2]) + 1)] if ends else braces[1].split(",")
    rest = expanded(pattern[braces.end() :])
    if len(middles) * len(rest) > MOST:
        raise DataError(f"data: {pattern} stands for more than {MOST:,} names")
    return [pattern[: braces.start()] + middle + tail for middle in middles for tail in rest]
