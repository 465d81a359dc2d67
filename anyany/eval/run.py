"""Tasks by id, those of plugins among them, and their figures for a model."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from anyany.errors import PluginError, RequestError
from anyany.eval import items
from anyany.eval.result import Result, digest, in_effect, versions
from anyany.eval.scores import Ask, Measured
from anyany.eval.standard import METRICS, TASKS
from anyany.plugin.evaluation import Metric, Task
from anyany.plugin.registry import Registry, registry
from anyany.plugin.specs import MetricSpec, TaskSpec

if TYPE_CHECKING:
    from anyany.model import Model

S = TypeVar("S", TaskSpec, MetricSpec)
ALL = 100_000
"""Most items of a task, unless a limit is given."""


class Evaluation:
    """Measures one model; every result says how to get it again.

    Args:
        model: To be measured.
        seed: Item i of a task has the seed ``seed + i``.
        options: Of generation, over those of a task.
        plugins: Where tasks and metrics come from besides the core; the plugins of this machine by default.

    Raises:
        RequestError: An option that does not exist, or a value out of range.
    """

    def __init__(
        self, model: Model, *, seed: int = 0, options: Mapping[str, Any] | None = None, plugins: Registry | None = None
    ) -> None:
        self.plugins = plugins or registry()
        self.tasks = {spec.id: spec for spec in (*TASKS, *self.plugins.tasks)}
        self.metrics = {spec.id: spec for spec in (*METRICS, *self.plugins.metrics)}
        self.ask = Ask(model, seed, dict(options or {}))
        in_effect(model, self.ask.options)
        self._digest = ""

    def run(self, tasks: Sequence[str] = (), *, metrics: Sequence[str] = (), limit: int = ALL) -> Iterator[Result]:
        """Results task by task, as they come.

        Args:
            tasks: Ids; none stands for those of mini.
            metrics: Ids, in place of those of the tasks.
            limit: Most items of a task (for forecasts: windows of a channel).

        Raises:
            RequestError: No such task or metric, known before anything runs.
            DataError: The data of a task is not there.
            PluginError: A factory of a plugin fails.
        """
        specs = [_found("task", name, self.tasks) for name in tasks] or list(TASKS)
        for name in metrics:
            _found("metric", name, self.metrics)
        return (self._of(spec, metrics, limit) for spec in specs)

    def _of(self, spec: TaskSpec, metrics: Sequence[str], limit: int) -> Result:
        began = time.perf_counter()
        made = self.plugins.build(spec)
        if isinstance(made, Measured):
            return self._measured(spec.id, made, metrics, limit, began)
        if isinstance(made, Task):
            return self._items(spec.id, made, metrics, limit, began)
        raise PluginError(f"{spec.id}: its factory must return a Task, got {type(made).__name__}")

    def task(self, name: str, task: Task, *, metrics: Sequence[str] = (), limit: int = ALL) -> Result:
        """The result of a task that you hold in hand; arguments and errors as for ``run``."""
        return self._items(name, task, metrics, limit, time.perf_counter())

    def _items(self, name: str, task: Task, metrics: Sequence[str], limit: int, began: float) -> Result:
        ids = list(dict.fromkeys(metrics or task.metrics))
        if not ids:
            raise RequestError(f"{name}: has no metric; name one, such as 'exact-match'")
        options = in_effect(self.ask.model, {**task.options, **self.ask.options})
        built = [(spec, self._metric(spec)) for spec in (_found("metric", each, self.metrics) for each in ids)]
        figures, failures = items.score(self.ask, task, built, _whole(limit))
        first = figures[ids[0]]
        return self._result(
            name, began, options, metric=ids[0], value=first.value, n=first.n, baseline=items.said(task, first),
            judge=task.judge, figures=figures, failures=failures,
        )  # fmt: skip

    def _metric(self, spec: MetricSpec) -> Metric:
        metric = self.plugins.build(spec)
        if not isinstance(metric, Metric):
            raise PluginError(f"{spec.id}: its factory must return a Metric, got {type(metric).__name__}")
        return metric

    def _measured(self, name: str, task: Measured, metrics: Sequence[str], limit: int, began: float) -> Result:
        if metrics:
            raise RequestError(f"{name}: judges in its own way, and takes no metric; leave out {', '.join(metrics)}")
        score = task.score(self.ask, _whole(limit))
        known = {key: score.pop(key) for key in ("metric", "value", "n", "baseline", "judge")}
        return self._result(name, began, in_effect(self.ask.model, self.ask.options), more=score, **known)

    def _result(self, name: str, began: float, options: Mapping[str, Any], **values: Any) -> Result:
        self._digest = self._digest or digest(self.ask.model, self.ask.options.get("adapter"))
        return Result(
            task=name, seed=self.ask.seed, options=options, model=self._digest, versions=versions(self.plugins),
            seconds=round(time.perf_counter() - began, 1), **values,
        )  # fmt: skip


def _whole(limit: int) -> int:
    if limit < 1:
        raise RequestError(f"limit: expected at least one item, got {limit}")
    return limit


def _found(kind: str, name: str, known: Mapping[str, S]) -> S:
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise RequestError(f"eval: no {kind} {name!r}; {hint}")
    return known[name]
