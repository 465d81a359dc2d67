"""Public data sets from one folder: ``$ANYANY_DATA``, or ``../shared/data`` beside the checkout.

Archives are read member by member; nothing is unpickled, nothing is extracted.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anyany.errors import DataError
from anyany.parts import Audio, Motion

ORIGINS = {
    "mnist": "https://github.com/rasbt/mnist-pngs (packed as the four IDX files of MNIST)",
    "fsdd": "https://github.com/Jakobovski/free-spoken-digit-dataset (the folder recordings/ as recordings.zip)",
    "ett": "https://github.com/zhouhaoyi/ETDataset (ETT-small/ETTh1.csv and ETTh2.csv)",
    "truce": "https://github.com/harsh19/TRUCE (the json files of data/)",
    "kaykit": "https://github.com/sketchpunklabs/kaykit_char (the .glb files)",
}


def folder(name: str) -> Path:
    """Where a data set lies.

    Raises:
        DataError: It is not there; the message says where it was looked for and where it comes from.
    """
    given = os.environ.get("ANYANY_DATA")
    roots = [Path(given)] if given else []
    roots.append(Path(__file__).resolve().parents[3] / "shared" / "data")
    for root in roots:
        if (root / name).is_dir():
            return root / name
    looked = ", ".join(str(root / name) for root in roots)
    raise DataError(f"data {name!r}: not found at {looked}; get it from {ORIGINS[name]} and set ANYANY_DATA")


def available(name: str) -> bool:
    """Whether a data set is there."""
    try:
        folder(name)
    except DataError:
        return False
    return True


@lru_cache(maxsize=2)
def mnist(split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Pictures ``(N, 28, 28)`` and labels ``(N,)`` of ``train`` or ``t10k``."""
    images = _idx("mnist", f"{split}-images-idx3-ubyte.gz", 16)
    labels = _idx("mnist", f"{split}-labels-idx1-ubyte.gz", 8)
    return images.reshape(-1, 28, 28), labels


def _idx(name: str, file: str, header: int) -> npt.NDArray[np.uint8]:
    path = folder(name) / file
    try:
        return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
    except (OSError, EOFError, ValueError):
        raise DataError(f"data {name!r}: {file} is missing or damaged; get it again from {ORIGINS[name]}") from None


class Spoken(NamedTuple):
    """One recording."""

    digit: int
    speaker: str
    index: int
    audio: Audio


@lru_cache(maxsize=1)
def spoken() -> tuple[Spoken, ...]:
    """All recordings of spoken digits, in order of their names."""
    with zipfile.ZipFile(folder("fsdd") / "recordings.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".wav"))
        out = []
        for name in names:
            digit, speaker, index = Path(name).stem.split("_")
            out.append(Spoken(int(digit), speaker, int(index), Audio.from_bytes(archive.read(name))))
    return tuple(out)


@lru_cache(maxsize=2)
def ett(name: str) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Columns and hourly values ``(17420, 7)`` of ``ETTh1`` or ``ETTh2``."""
    with (folder("ett") / f"{name}.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    return tuple(header[1:]), np.array([row[1:] for row in rows], np.float64)


class Captioned(NamedTuple):
    """A short series and what people wrote about it."""

    values: npt.NDArray[np.float64]
    captions: tuple[str, ...]
    synthetic: bool


@lru_cache(maxsize=3)
def truce(split: str) -> tuple[Captioned, ...]:
    """Series of 12 points with three captions each, of ``train``, ``val`` or ``test``."""
    out = []
    for kind in ("pilot13final", "pilot16b"):
        data = json.loads((folder("truce") / f"{kind}{split}.json").read_text(encoding="utf-8"))
        for _, entry in sorted(data.items()):
            captions = [c if isinstance(c, str) else c[0] for c in entry["annotations"]]
            values = np.array(entry["series"], np.float64)
            out.append(Captioned(values, tuple(_tidy(c) for c in captions), kind == "pilot13final"))
    return tuple(out)


def _tidy(caption: str) -> str:
    return " ".join(caption.lower().replace(".", " ").split())


@lru_cache(maxsize=1)
def movements() -> dict[str, Motion]:
    """All clips of the animated character by name, poses without movement left out."""
    out: dict[str, Motion] = {}
    for path in sorted(folder("kaykit").glob("*.glb")):
        for name in Motion.clips(path):
            if "pose" not in name.lower():
                out.setdefault(name.replace("_", " ").lower(), Motion.open(path, clip=name))
    return out
