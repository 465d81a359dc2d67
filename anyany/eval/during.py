"""Figures while a model trains: what the table ``evaluate`` of a recipe asks for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyany.eval.own import conversations
from anyany.eval.result import Result
from anyany.eval.run import ALL, Evaluation

if TYPE_CHECKING:
    from anyany.model import Model

FILE = "evaluation.jsonl"
"""In the folder of the run: a line per task and time, with all that is needed to get the figure again."""


class During:
    """Measures a model that goes on training afterwards.

    Args:
        model: To be measured, as it is at that step.
        wanted: The table ``evaluate`` of a recipe, checked by it.
        folder: Of the run.

    Raises:
        RequestError: No such task or metric.
        DataError: ``data`` is no file of conversations.
    """

    def __init__(self, model: Model, wanted: Mapping[str, Any], folder: Path) -> None:
        self.model, self.file = model, folder / FILE
        self.tasks, self.metrics = tuple(wanted.get("tasks", ())), tuple(wanted.get("metrics", ()))
        self.limit = wanted.get("limit", ALL)
        self.data = wanted.get("data")
        self.own = None if self.data is None else conversations(self.data)
        Evaluation(model).run(self.tasks, metrics=self.metrics)  # runs nothing; tells of names that do not exist

    def __call__(self, step: int) -> dict[str, float]:
        """Values by ``eval/<task>``, behind ``step`` steps; NaN where no item could be measured."""
        values = {}
        with self.file.open("a", encoding="utf-8") as file:
            for result in self._results():
                file.write(json.dumps({"step": step, **result.to_json()}) + "\n")
                file.flush()
                values[f"eval/{result.task}"] = math.nan if result.value is None else result.value
        return values

    def _results(self) -> Iterator[Result]:
        evaluation = Evaluation(self.model)  # a new one, since it names the weights that it has seen first
        if self.own is not None:
            name = Path(self.data).stem
            yield evaluation.task(name, self.own, metrics=self.metrics, limit=self.limit)
        if self.tasks:
            yield from evaluation.run(self.tasks, limit=self.limit)
