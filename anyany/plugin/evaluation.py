"""What evaluation exchanges: items of a task, and metrics that compare replies with references. All of it is parts.

A task says what is asked, and what a good reply is; a metric says how close a reply comes. Neither sees a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from anyany.parts import Media

    Part: TypeAlias = str | Media


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question of a task.

    Attributes:
        prompt: Whatever ``generate`` takes.
        references: Replies that would be right, each in parts; a metric takes the best of them.
        want: Modalities of the reply, in order; ``None`` leaves them to the model.
        baseline: What a trivial method answers, in parts; scored as the model's reply is. Empty where there is none.
    """

    prompt: Any
    references: tuple[tuple[Part, ...], ...]
    want: tuple[str, ...] | None = None
    baseline: tuple[Part, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """A set of items, and how replies to them are scored.

    Attributes:
        items: By number. An ``AnyanyError`` that taking one raises is counted as the failure of that item.
        metrics: Ids; the first is the figure of the task.
        baseline: In words, what the figure is to be compared with; where items have a ``baseline``, its measured
            figure is put behind these words.
        judge: In words, what makes a reply right.
        options: Of generation, such as ``{"max_new_tokens": 20}``.
    """

    items: Sequence[Item]
    metrics: tuple[str, ...]
    baseline: str = ""
    judge: str = ""
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@runtime_checkable
class Metric(Protocol):
    """How close replies come to references: measured item by item, added up at the end."""

    def measure(self, answer: Part, references: Sequence[Part], prompt: Sequence[Part]) -> Any:
        """What one item contributes, small enough to be kept for all items.

        Args:
            answer: The part of the reply that the metric looks at.
            references: The part of each reference that it looks at, at least one.
            prompt: All parts of the prompt, in order.

        Raises:
            AnyanyError: This item cannot be measured; it is counted as failed.
        """

    def total(self, measured: Sequence[Any]) -> float:
        """The figure over all items that were measured, at least one."""


@dataclass(frozen=True)
class Mean:
    """A metric that is the mean of one number per item.

    Attributes:
        measure: The number of an item; see ``Metric.measure``.
    """

    measure: Callable[[Any, Sequence[Any], Sequence[Any]], float]

    def total(self, measured: Sequence[float]) -> float:
        """The mean."""
        return math.fsum(measured) / len(measured)
