"""Samples from parquet files, one a row, by pyarrow.

A row has one of the columns ``messages``, ``pair`` and ``part``, as in ``anyany.training.samples``, nested or as text
of JSON; with a template, columns of any name. Paths are relative to the folder of the file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from anyany.errors import DataError
from anyany.media.packages import need
from anyany.training import template as templates
from anyany.training.patterns import matching
from anyany.training.samples import KEYS, make_sample, named, parsed, within

GROUP_BYTES = 256 << 20
"""Decoded size that a row group may have: it is read whole for one row of it."""
GROUPS_KEPT = 4


class Rows:
    """A source over the rows of parquet files.

    Row groups are read whole, and the latest four are kept: data in any order is fast where they are small
    (``row_group_size=100`` when the file is written).

    Args:
        path: A file, a folder, a pattern, or a list of these.
        template: What a sample is, with names of columns in braces; none where a row is a sample already.

    Raises:
        DataError: A file is missing, is not parquet, or lacks a column.
        RecipeError: The template is none.
    """

    def __init__(self, path: str | Sequence[str], template: Mapping[str, Any] | None = None) -> None:
        if template is not None:
            templates.check(template)
        self.template, self.files = template, matching(path, ".parquet")
        self.columns: list[list[str]] = []
        self.groups: list[tuple[int, int, int]] = []  # file, number in it, rows before it in the file
        counts: list[int] = []
        for number, file in enumerate(self.files):
            meta = self._open(number).metadata
            self.columns.append(self._needed(file.name, meta.schema.to_arrow_schema().names))
            before = 0
            for group in range(meta.num_row_groups):
                self.groups.append((number, group, before))
                counts.append(meta.row_group(group).num_rows)
                before += counts[-1]
        self.ends = list(accumulate(counts))
        self.kept: OrderedDict[int, Any] = OrderedDict()

    def _open(self, number: int) -> Any:
        parquet, arrow = need("pyarrow.parquet", "pyarrow"), need("pyarrow", "pyarrow")
        try:
            return parquet.ParquetFile(self.files[number])
        except (OSError, arrow.ArrowException):
            raise DataError(
                f"parquet: {self.files[number]} cannot be read, or is not parquet; check the file"
            ) from None

    def _needed(self, name: str, has: Sequence[str]) -> list[str]:
        if self.template is None:
            wanted = [key for key in KEYS if key in has]
            if not wanted:
                raise DataError(
                    f"parquet: {name}: expected one of the columns {', '.join(KEYS)}, got {', '.join(has)[:200]}; "
                    "give a template that says what to make of them"
                )
            return wanted
        asked = templates.names(self.template)
        missing = [n for n in sorted(asked) if n not in has and n.split(".")[0] not in has]
        if missing:
            raise DataError(f"parquet: {name}: no column {missing[0]!r}; there are {', '.join(has)[:200]}")
        return sorted({n if n in has else n.split(".")[0] for n in asked})

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def sample(self, index: int, draw: np.random.Generator) -> Any:
        """What a row holds, or what the template makes of it.

        Raises:
            DataError: The row is no sample, or its media cannot be opened; it names file and row, from 0.
        """
        place = bisect_right(self.ends, index)
        file, _, before = self.groups[place]
        within_group = index - (self.ends[place - 1] if place else 0)
        with named(f"{self.files[file].name}, row {before + within_group}"):
            row = self._group(place).slice(within_group, 1).to_pylist()[0]
            item = templates.fill(self.template, row) if self.template is not None else _whole(row)
            return make_sample(_bare(item), within(self.files[file].parent))

    def _group(self, place: int) -> Any:
        if place in self.kept:
            self.kept.move_to_end(place)
            return self.kept[place]
        file, group, _ = self.groups[place]
        opened = self._open(file)
        meta = opened.metadata.row_group(group)
        used = (meta.column(i) for i in range(meta.num_columns))
        size = sum(c.total_uncompressed_size for c in used if c.path_in_schema.split(".")[0] in self.columns[file])
        if size > GROUP_BYTES:
            raise DataError(f"row group {group} has {size} bytes, at most {GROUP_BYTES} are read; write smaller groups")
        arrow = need("pyarrow", "pyarrow")
        try:
            table = opened.read_row_group(group, columns=self.columns[file])
        except (OSError, arrow.ArrowException):
            raise DataError(f"row group {group} is damaged; write the file anew") from None
        self.kept[place] = table
        if len(self.kept) > GROUPS_KEPT:
            self.kept.popitem(last=False)
        return table


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that hold something; text is JSON."""
    held = {key: value for key, value in row.items() if value is not None}
    return {key: parsed(value, "a column") if isinstance(value, str) else value for key, value in held.items()}


def _bare(value: Any) -> Any:
    """Nested columns give every field of every row: objects without those that hold nothing."""
    if isinstance(value, Mapping):
        return {key: _bare(inner) for key, inner in value.items() if inner is not None}
    return [_bare(inner) for inner in value] if isinstance(value, list) else value
