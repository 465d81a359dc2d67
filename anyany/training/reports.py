"""What was passed over: one line per broken sample, once per sample."""

from __future__ import annotations

import json
from pathlib import Path

from anyany.errors import AnyanyError


class Reports:
    """Appends ``{"source", "sample", "error"}`` to a file, and counts.

    Args:
        path: Of the file, made at the first report; what it holds already is not reported again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.known = {(line["source"], line["sample"]) for line in map(json.loads, lines)}

    def __call__(self, source: str, sample: int, error: AnyanyError) -> None:
        """Report one sample."""
        if (source, sample) in self.known:
            return
        self.known.add((source, sample))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"source": source, "sample": sample, "error": str(error)}) + "\n")
        if len(self.known) == 1:
            print(f"passed over: {error} (this and all others: {self.path})", flush=True)
