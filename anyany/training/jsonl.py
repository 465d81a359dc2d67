"""Samples from a JSONL file, one a line: the data of most people, without a line of code.

A line is one JSON object with one of these keys, parts in the form of chat messages::

    {"messages": [{"role": "user", "content": [{"type": "image", "path": "cat.png"}, "What is this?"]},
                  {"role": "assistant", "content": "A cat."}]}
    {"pair": [{"type": "image", "path": "cat.png"}, "a cat"]}
    {"part": {"type": "audio", "path": "purr.wav"}}

for the tasks ``sequence``, ``bind`` and ``codec``. Paths are relative to the folder of the file; media are opened
when the sample is taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anyany.errors import AnyanyError, DataError
from anyany.parts.messages import as_messages

KEYS = ("messages", "pair", "part")


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
        try:
            return self._sample(json.loads(text))
        except (ValueError, RecursionError, AnyanyError) as error:
            cause = str(error) if isinstance(error, AnyanyError) else f"not a line of JSON: {error}"
            raise DataError(f"{self.path.name}, line {number}: {cause}") from error

    def _sample(self, line: Any) -> Any:
        keys = [key for key in KEYS if isinstance(line, Mapping) and key in line]
        if len(keys) != 1 or len(line) != 1:
            found = ", ".join(line) if isinstance(line, Mapping) else type(line).__name__
            raise DataError(f"expected an object with one of the keys {', '.join(KEYS)}, got {found:.80}")
        value = line[keys[0]]
        if keys[0] == "messages":
            return list(as_messages([{**m, "content": self._placed(m.get("content"))} for m in _objects(value)]))
        (message,) = as_messages([{"role": "user", "content": self._placed([value] if keys[0] == "part" else value)}])
        if keys[0] == "part":
            return message.parts[0]
        if len(message.parts) != 2:
            raise DataError(f"expected two parts in a pair, got {len(message.parts)}")
        return message.parts

    def _placed(self, content: Any) -> Any:
        """Content with the paths of its parts under the folder of the file."""
        if not isinstance(content, list):
            return content
        return [
            {**part, "path": str(self.path.parent / part["path"])}
            if isinstance(part, Mapping) and isinstance(part.get("path"), str)
            else part
            for part in content
        ]


def _objects(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(item, Mapping) for item in value):
        raise DataError("expected a list of messages, each an object with 'role' and 'content'")
    return value
