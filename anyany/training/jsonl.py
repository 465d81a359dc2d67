"""Samples from a JSONL file, one a line: the data of most people, without a line of code.

A line is one JSON object as in ``anyany.training.samples``. Paths are relative to the folder of the file; media are
opened when the sample is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anyany.errors import DataError
from anyany.training.samples import make_sample, named, parsed, within


class Lines:
    """A source over the lines of a file; empty lines do not count.

    Args:
        path: Of the file. It is read once for the places of its lines, which are then read one by one.

    Raises:
        DataError: There is no such file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.places: list[tuple[int, int]] = []  # number and first byte of each line
        try:
            with self.path.open("rb") as file:
                start = 0
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        self.places.append((number, start))
                    start += len(line)
        except OSError as error:
            raise DataError(f"jsonl: cannot read {path}: {error.strerror}; check the path") from None

    def __len__(self) -> int:
        return len(self.places)

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """A list of messages, a pair of parts, or one part.

        Raises:
            DataError: The line is no such object, or its media cannot be opened; it names file and line.
        """
        number, start = self.places[index]
        with self.path.open("rb") as file:
            file.seek(start)
            text = file.readline()
        with named(f"{self.path.name}, line {number}"):
            return make_sample(parsed(text, "a line"), within(self.path.parent))
