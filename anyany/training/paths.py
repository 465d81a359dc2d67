"""The source that a path stands for, so that a recipe need not name a factory for what most people have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anyany.errors import RecipeError

READERS = {".jsonl": "jsonl:Lines", ".parquet": "parquet:Rows", ".tar": "webdataset:Shards"}
"""Sources by the suffix of what they read."""
LABELLED = {"bind": {"pair": ["{media}", "{label}"]}, "codec": {"part": "{media}"}}
"""What a task makes of a labelled file where it does not ask for the label."""


def source_at(path: str, task: str) -> dict[str, Any]:
    """The source that reads a file, or a folder of labelled files.

    Raises:
        RecipeError: Nothing that is read ends like this.
    """
    if Path(path).is_dir():
        template = {"template": LABELLED[task]} if task in LABELLED else {}
        return {"factory": "anyany.training.folder:Labelled", "options": {"path": path, **template}}
    reader = READERS.get(Path(path).suffix)
    if reader is None:
        raise RecipeError(
            f"source {path!r}: expected a folder of labelled files that exists, or a path that ends in "
            f"{', '.join(READERS)}; anything else needs factory and options"
        )
    return {"factory": f"anyany.training.{reader}", "options": {"path": path}}
