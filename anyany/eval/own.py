"""A user's own data as a task: conversations whose last message is what a good reply says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anyany.errors import DataError
from anyany.parts import Message
from anyany.plugin.evaluation import Item, Task
from anyany.training.jsonl import Lines
from anyany.training.samples import named, parsed


class Conversations(Sequence[Item]):
    """Items of a JSONL file with lines ``{"messages": [...]}``; see ``anyany.training.samples``.

    The prompt is all but the last message, the reference what the assistant says in that. It is asked for in the
    modalities of the reference.

    Args:
        path: Of the file. Media are opened when their item is taken.

    Raises:
        DataError: There is no such file, or it holds no line.
    """

    def __init__(self, path: str) -> None:
        if Path(path).is_dir():
            raise DataError(f"eval: {path} is a folder; --data takes a JSONL file with lines {{'messages': [...]}}")
        self.lines = Lines(path)
        if len(self.lines) == 0:
            raise DataError(f"eval: {path} holds no line; a line is {{'messages': [...]}}")
        self.usual = self._usual()

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Item:  # type: ignore[override]
        """Item ``index``.

        Raises:
            DataError: The line is no conversation that ends with the assistant; it names file and line.
        """
        sample = self.lines.sample(index, np.random.default_rng(index))
        with named(f"{self.lines.path.name}, line {self.lines.places[index][0]}"):
            if not isinstance(sample, list) or len(sample) < 2 or sample[-1].role != "assistant":
                raise DataError("expected 'messages' of which the last is the assistant's, behind at least one other")
            return self._item(sample)

    def _item(self, sample: list[Message]) -> Item:
        parts = sample[-1].parts
        kinds = tuple("text" if isinstance(part, str) else part.modality for part in parts)
        # Text that stands in several parts comes as one.
        want = tuple(kind for i, kind in enumerate(kinds) if kind != "text" or kinds[i - 1 : i] != ("text",))
        baseline = (self.usual,) if self.usual and want == ("text",) else ()
        return Item(prompt=sample[:-1], references=(parts,), want=want, baseline=baseline)

    def _usual(self) -> str:
        """The most frequent reference where references are plain text; what is wrong with a line is told later."""
        count: Counter[str] = Counter()
        with self.lines.path.open("rb") as file:
            for line in file:
                try:
                    content = parsed(line, "a line")["messages"][-1]["content"]
                except (DataError, LookupError, TypeError):
                    continue
                if isinstance(content, str):
                    count[content] += 1
        return count.most_common(1)[0][0] if count else ""


def conversations(path: str, metrics: Sequence[str] = ("exact-match",)) -> Task:
    """A task of a JSONL file.

    Args:
        path: Of the file.
        metrics: Ids.
    """
    items = Conversations(path)
    return Task(
        items=items, metrics=tuple(metrics), baseline="most frequent reference" if items.usual else "",
        judge="the last message of each conversation",
    )  # fmt: skip
