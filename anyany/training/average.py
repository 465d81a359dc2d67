"""A running average of the weights, which is often better than the last of them (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from anyany.errors import CheckpointError
from anyany.training.sharding import split

PREFIX = "average."


class Average:
    """``average = decay * average + (1 - decay) * weight`` after each step, in float32, of what is trained.

    In the first steps the decay is ``(1 + step) / (10 + step)``, where that is less: a short run would otherwise
    end at an average of what it began with.

    Args:
        model: Only parameters with ``requires_grad`` are averaged; all else is as the model has it.
        decay: From 0 to 1, such as 0.999.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().float().clone() for name, p in self.weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights behind step 1, 2, ..."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, average in self.averages.items():
            average.lerp_(self.weights[name].float(), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model holds the averages; afterwards its own weights, bit for bit."""
        own = {name: p.detach().clone() for name, p in self.weights.items()}
        self._set(self.averages)
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.weights.items():
            parameter.copy_(values[name])

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {PREFIX + name: average for name, average in self.averages.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what ``tensors`` gave, from among others.

        Raises:
            CheckpointError: They are averages of other weights.
        """
        given = {name.removeprefix(PREFIX) for name in tensors if name.startswith(PREFIX)}
        for name in given | self.averages.keys():
            own = self.averages.get(name)
            if own is None or name not in given or tensors[PREFIX + name].shape != own.shape:
                raise CheckpointError(
                    f"average: the checkpoint has {len(given)} averages, the run trains {len(self.averages)} weights, "
                    f"and {name!r} is not the same in both; choose a new folder"
                )
        for name, average in self.averages.items():
            average.copy_(split(tensors[PREFIX + name], average))
