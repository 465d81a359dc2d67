"""Samples from data sets of the ``datasets`` library: a folder of ``save_to_disk``, or whatever ``load_dataset`` loads.

Only the table is theirs: no column is decoded by that library. A column of media becomes a part that is opened like
any other, and the number of a class its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from anyany.errors import DataError, MissingPackageError
from anyany.training import template as templates
from anyany.training.samples import make_sample, named, within


class Dataset:
    """A source over the rows of one split.

    Args:
        path: A folder of ``save_to_disk``, or the first argument of ``load_dataset``, which may download it.
        template: What a sample is, with names of columns in braces.
        split: Of a data set that has several.
        name: Of the configuration, the second argument of ``load_dataset``.

    Raises:
        MissingPackageError: ``datasets`` is not installed.
        DataError: It cannot be loaded, or lacks the split or a column.
        RecipeError: The template is none.
    """

    def __init__(self, path: str, template: Mapping[str, Any], split: str = "train", name: str | None = None) -> None:
        templates.check(template)
        self.path, self.template = path, template
        loaded = _load(path, split, name)
        self.features = dict(loaded.features)
        for asked in sorted(templates.names(template)):
            if asked not in self.features and asked.split(".")[0] not in self.features:
                raise DataError(f"datasets: {path} has no column {asked!r}; there are {', '.join(self.features)[:200]}")
        self.rows = loaded.with_format("arrow")  # as stored: nothing is decoded

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """What the template makes of a row.

        Raises:
            DataError: The row makes no sample, or its media cannot be opened; it names data set and row, from 0.
        """
        with named(f"{Path(self.path).name}, row {index}"):
            (row,) = self.rows[index : index + 1].to_pylist()
            columns = {key: _column(self.features[key], value) for key, value in row.items()}
            return make_sample(templates.fill(self.template, columns), within(Path()))


def _load(path: str, split: str, name: str | None) -> Any:
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise MissingPackageError(
            "datasets: the package is needed and not installed. Try: pip install 'anyany[datasets]'"
        ) from None
    folder = Path(path)
    try:
        if any((folder / file).is_file() for file in ("state.json", "dataset_dict.json")):
            loaded = datasets.load_from_disk(path)
        else:
            loaded = datasets.load_dataset(path, name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"datasets: cannot load {path}: {error!s:.200}; check the path or the name") from error
    if isinstance(loaded, Mapping):
        if split not in loaded:
            raise DataError(f"datasets: {path} has no split {split!r}; there are {', '.join(loaded)}")
        loaded = loaded[split]
    return loaded


def _column(feature: Any, value: Any) -> Any:
    """A stored value -> a part where the feature is one of media, a name where it is a class."""
    if value is None:
        return None
    if isinstance(feature, Mapping):
        return {key: _column(feature[key], inner) for key, inner in value.items()}
    if hasattr(feature, "int2str"):
        return feature.int2str(value)
    if hasattr(feature, "decode_example") and isinstance(value, Mapping):
        held = {key: value[key] for key in ("bytes", "path") if value.get(key) is not None}
        return {"type": type(feature).__name__.lower(), **held}
    if hasattr(feature, "feature") and isinstance(value, list):
        return [_column(feature.feature, inner) for inner in value]
    return value
