"""Several processes that train one model: what they tell each other, and how their gradients become one.

Each rank trains on its own batches of a step. Gradients are summed, not averaged, because each mean of a loss is over
the counts of the whole step (``Task.loss``). So a step does not depend on the number of ranks, up to rounding: one
process adds the gradient of a batch to the sum of those before, ranks add sums of their own, and floating-point
addition in another order differs in the last bits.

What is told travels as JSON over the CPU; gradients travel where they lie, by gloo on CPUs and by NCCL on GPUs.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from anyany.errors import DistributedError

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others: longer than any step, or the writing of a checkpoint, takes."""
BUCKET = 25 * 2**20
"""Bytes of gradients that travel together: enough that the time of a message is that of its bytes."""


@dataclass(frozen=True)
class World:
    """The processes of a run as one of them sees them. With ``size`` 1 nothing is sent, and nothing is changed.

    Every method is called by all ranks, in the same order.

    Attributes:
        rank: Number of this process; 0 alone writes and prints.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """What each rank gives, in the order of ranks; JSON, NaN included.

        Raises:
            DistributedError: A rank has ended, or does not answer.
        """
        if self.size == 1:
            return [value]
        mine = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        with self._answered():
            lengths = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
            dist.all_gather(lengths, torch.tensor([len(mine)]))
            padded = torch.zeros(int(max(lengths)), dtype=torch.uint8)
            padded[: len(mine)] = mine
            texts = [torch.empty_like(padded) for _ in range(self.size)]
            dist.all_gather(texts, padded)
        return [json.loads(bytes(text[:length].numpy())) for text, length in zip(texts, lengths, strict=True)]

    def sum_counts(self, counts: Mapping[str, float]) -> dict[str, Any]:
        """Sums over ranks by name; a name that a rank does not know counts as 0 there."""
        total: Counter[str] = Counter()
        for each in self.gather(dict(counts)):
            total.update(each)
        return dict(total)

    def agree(self, flag: bool) -> bool:
        """Whether any rank says so: the same answer on all."""
        return any(self.gather(flag))

    def wait(self) -> None:
        """Until all ranks are here."""
        self.gather(None)

    def same(self, what: str, value: Any) -> None:
        """Hold all ranks to one value.

        Raises:
            DistributedError: They differ; all ranks raise alike.
        """
        values = self.gather(value)
        odd = [rank for rank, each in enumerate(values) if each != values[0]]
        if odd:
            raise DistributedError(
                f"rank {odd[0]}: other {what} than on rank 0; all ranks must run the same code with the same recipe, "
                "and see the same files in the folder of the run"
            )

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all ranks; one that a rank does not have counts as 0 there.

        A parameter without a gradient on any rank stays without one, so that the optimiser passes over it, as it does
        in one process.

        Args:
            parameters: The same on all ranks, in the same order.

        Raises:
            DistributedError: A rank has ended, or does not answer.
        """
        if self.size == 1:
            return
        there = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
        with self._answered():
            dist.all_reduce(there, dist.ReduceOp.MAX)
            self._sum([_gradient(p) for p, anywhere in zip(parameters, there.tolist(), strict=True) if anywhere])

    @contextmanager
    def summing_changes(self, buffers: Sequence[Tensor]) -> Iterator[None]:
        """Within, each rank may change buffers of its own; behind it, all have the changes of all, added up.

        For running statistics and counters. A statistic that moves by a small share of each batch differs from that of
        one process in the square of the share.

        Args:
            buffers: Of numbers, the same on all ranks.
        """
        before = [buffer.clone() for buffer in buffers] if self.size > 1 else []
        yield
        if self.size > 1:
            changes = [buffer - old for buffer, old in zip(buffers, before, strict=True)]
            with self._answered():
                self._sum(changes)
            for buffer, old, change in zip(buffers, before, changes, strict=True):
                buffer.copy_(old + change)

    def _sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over ranks."""
        for bucket in buckets(tensors, BUCKET):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            for tensor, summed in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    @contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise DistributedError(
                f"rank {self.rank}: another of the {self.size} ranks has ended or does not answer; look at what it "
                "said, then run the same command to go on from the last checkpoint"
            ) from error


ALONE = World()
"""A run in one process."""


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def numbers(components: Iterable[nn.Module]) -> list[Tensor]:
    """Buffers of numbers of the components that train; all others stay as they are."""
    training = [component for component in components if any(p.requires_grad for p in component.parameters())]
    return [buffer for component in training for buffer in component.buffers() if buffer.dtype != torch.bool]


def buckets(tensors: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Neighbours of one type and device, together at most ``size`` bytes; a larger tensor is alone."""
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        alike = bucket and (bucket[0].dtype, bucket[0].device) == (tensor.dtype, tensor.device)
        if bucket and (not alike or held + tensor.nbytes > size):
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.nbytes
    if bucket:
        yield bucket


@contextmanager
def joined(timeout: timedelta = TIMEOUT) -> Iterator[World]:
    """The world that ``torchrun`` has begun; where ``WORLD_SIZE`` is 1 or not set, this process alone.

    Args:
        timeout: How long a rank waits for the others.

    Raises:
        DistributedError: The ranks do not find each other.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield ALONE
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise DistributedError(
            f"the {os.environ['WORLD_SIZE']} ranks of WORLD_SIZE cannot be joined; start them by torchrun, "
            "which sets RANK, MASTER_ADDR and MASTER_PORT, or unset WORLD_SIZE for one process"
        ) from error
    yield World(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()  # not behind an error: it could wait for a rank that is gone, and the process ends
