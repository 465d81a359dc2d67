"""A task of items: ask, compare each reply with its references, add up. What fails is told and counted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyany.errors import DataError, PluginError
from anyany.eval.result import Failure, Figure
from anyany.eval.scores import BATCH, Ask
from anyany.parts import Media, as_messages
from anyany.plugin.evaluation import Item, Metric, Task
from anyany.plugin.records import error_text
from anyany.plugin.specs import MetricSpec
from anyany.plugin.standard import TEXT

if TYPE_CHECKING:
    from anyany.plugin.evaluation import Part


@dataclass
class Tally:
    """One metric, and what it has measured so far: of replies, and of the trivial replies."""

    spec: MetricSpec
    metric: Metric
    measured: list[Any] = field(default_factory=list)
    trivial: list[Any] = field(default_factory=list)

    def take(self, item: Item, reply: Sequence[Part]) -> None:
        """Measure a reply and the trivial one, or neither.

        Raises:
            DataError: A reply or reference has not one part of the right modality.
            Exception: Whatever the metric raises.
        """
        spec, prompt = self.spec, [part for message in as_messages(item.prompt) for part in message.parts]
        references = [only(r, spec.against or spec.modality, "the reference") for r in item.references]
        if not references:
            raise DataError("the item has no reference; a metric needs one")
        found = self._measure(only(reply, spec.modality, "the reply"), references, prompt)
        if item.baseline:
            answer = only(item.baseline, spec.modality, "the baseline")
            self.trivial.append(self._measure(answer, references, prompt))
        self.measured.append(found)

    def _measure(self, answer: Part, references: Sequence[Part], prompt: Sequence[Part]) -> Any:
        found = self.metric.measure(answer, references, prompt)
        if isinstance(found, float) and not math.isfinite(found):  # one such number would be the mean of all
            raise DataError(f"{self.spec.id} measured {found}, which is no finite number")
        return found

    def figure(self) -> Figure:
        """All of it added up.

        Raises:
            PluginError: The metric cannot add it up to a finite number.
        """
        value, baseline = (self._total(m) if m else None for m in (self.measured, self.trivial))
        return Figure(
            value=value, n=len(self.measured), baseline=baseline, higher_is_better=self.spec.higher_is_better
        )  # fmt: skip

    def _total(self, measured: Sequence[Any]) -> float:
        where = f"{self.spec.id}: total() of {len(measured)} items"
        try:
            value = float(self.metric.total(measured))
        except Exception as error:  # what a plugin raises gets its name
            raise PluginError(f"{where} failed: {error_text(error)}") from error
        if not math.isfinite(value):
            raise PluginError(f"{where} gave {value}, expected a finite number")
        return value


def only(parts: Sequence[Part], modality: str, whose: str) -> Part:
    """The part that a metric looks at: all text joined by blanks, or the only part of a modality.

    Raises:
        DataError: There is none, or there are several. Of a reply no text is empty text.
    """
    found: list[Part] = [p for p in parts if isinstance(p, str if modality == TEXT else Media)]
    if modality == TEXT and (found or whose == "the reply"):
        return " ".join(str(p) for p in found)
    found = [p for p in found if isinstance(p, Media) and p.modality == modality]
    if len(found) != 1:
        raise DataError(
            f"{whose} has {len(found)} parts of modality {modality!r}, the metric compares one; "
            "choose another metric, or what is wanted"
        )
    return found[0]


def score(
    ask: Ask, task: Task, metrics: Sequence[tuple[MetricSpec, Metric]], limit: int
) -> tuple[dict[str, Figure], tuple[Failure, ...]]:
    """Figures by metric, and the items that have none.

    Args:
        ask: Who is asked; options of the task hold where it says nothing else.
        task: Its first items are taken.
        metrics: What compares.
        limit: Most items.
    """
    tallies = [Tally(spec, metric) for spec, metric in metrics]
    failures: list[Failure] = []
    for start, items in _alike(task.items, min(limit, len(task.items)), failures):
        prompts = [item.prompt for item in items]
        replies = ask.batch(prompts, start, errors="return", **{**task.options, "want": items[0].want})
        for index, (item, reply) in enumerate(zip(items, replies, strict=True), start=start):
            if isinstance(reply, BaseException):
                failures.append(Failure(item=index, metric="", error=error_text(reply)))
                continue
            for tally in tallies:
                try:
                    tally.take(item, reply.parts)
                except Exception as error:  # one item, or one metric of a plugin, never ends the others
                    failures.append(Failure(item=index, metric=tally.spec.id, error=error_text(error)))
    return {tally.spec.id: tally.figure() for tally in tallies}, tuple(failures)


def _alike(items: Sequence[Item], count: int, failures: list[Failure]) -> Iterator[tuple[int, list[Item]]]:
    """Neighbours that want the same, at most a batch of them, with the number of the first."""
    batch: list[Item] = []
    start = 0
    for index in range(count):
        try:
            item = items[index]
        except Exception as error:  # a file that is damaged, a line that is none
            failures.append(Failure(item=index, metric="", error=error_text(error)))
            item = None
        if batch and (item is None or item.want != batch[0].want or len(batch) == BATCH):
            yield start, batch
            batch = []
        if item is not None:
            start = start if batch else index
            batch.append(item)
    if batch:
        yield start, batch


def said(task: Task, figure: Figure) -> str:
    """The baseline in words, with its measured figure."""
    return task.baseline if figure.baseline is None else f"{task.baseline} {figure.baseline:.3f}".strip()
