"""Answers by workers of Ray, on one machine or on many, in the order of the lines.

Ray Data hands batches of lines to actors that each hold the model. A worker that dies is started again, and what it had
is given to another; a line is answered the same wherever it is answered, and as often as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from anyany.errors import MissingPackageError

if TYPE_CHECKING:
    from anyany.cli.answers import Task
    from anyany.model import Model


class Worker:
    """An actor: loads the model once, then answers batch after batch.

    Args:
        make: Loads who answers.
        task: What the lines share.
    """

    def __init__(self, make: Callable[[], Model], task: Task) -> None:
        self.model, self.task = make(), task

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """``numbers`` and ``lines`` of a batch -> its ``answers``, JSON."""
        lines = dict(zip(map(int, batch["numbers"]), map(bytes, batch["lines"]), strict=True))
        return {"answers": [json.dumps(told) for told in self.task.answer(self.model, lines)]}


def answered(
    make: Callable[[], Model], task: Task, batches: Sequence[dict[int, bytes]], workers: int
) -> Iterator[list[dict[str, Any]]]:
    """Answers batch by batch, in order.

    Args:
        make: Loads who answers, in each worker.
        task: What the lines share; its folders are those that every worker sees.
        batches: Lines by number.
        workers: How many hold the model; each has a GPU to itself where there is one.

    Raises:
        MissingPackageError: Ray is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingPackageError("generate: --ray needs Ray. Try: pip install 'anyany[ray]'") from None
    import torch

    if not batches:
        return
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    # A row is a batch, as one process would answer it: together with others, logits may differ in their last bits.
    rows = [{"numbers": list(batch), "lines": list(batch.values())} for batch in batches]
    told = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Worker, fn_constructor_args=(make, task), concurrency=workers, num_gpus=int(torch.cuda.is_available())
    )
    for row in told.iter_rows():
        yield [json.loads(answer) for answer in row["answers"]]
