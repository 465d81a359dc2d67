"""A backbone in shards: each rank keeps its part of every matrix, and of what the optimiser knows about it.

FSDP2 (``torch.distributed.fsdp.fully_shard``; the idea is that of ZeRO, arXiv 1910.02054) gathers the weights of a
block right before it runs, and leaves each rank its part of the summed gradients. All ranks have to run the same blocks
forwards and backwards, and only the backbone is run by every batch, whatever modalities it holds; all else is
replicated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from anyany.backbone import Backbone
from anyany.backbone.memory_order import order_by_rows


class Sharded:
    """Shards a backbone in place. Its parameters become ``DTensor``, so make the optimiser afterwards.

    ``load_state_dict`` takes whole tensors, as a checkpoint of one process holds them. ``state_dict`` gives whole ones
    within ``whole()``, and shards outside.

    Args:
        backbone: The same on all ranks.
        size: How many ranks.
    """

    def __init__(self, backbone: Backbone, size: int) -> None:
        self.backbone = backbone
        self._whole: dict[str, Tensor] | None = None
        order_by_rows(backbone.parameters())  # generation may have left other orders, which have no shards
        mesh = init_device_mesh(next(backbone.parameters()).device.type, (size,))
        for module in (*backbone.blocks, backbone):
            fully_shard(module, mesh=mesh)
        for module in backbone.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)  # the sum: means are over the counts of the whole step
                module.set_force_sum_reduction_for_comms(True)
        # Where nothing before the backbone trains on this rank, its backward pass would run no block, and leave the
        # other ranks waiting.
        backbone.register_forward_pre_hook(_with_gradient)
        backbone.register_state_dict_post_hook(lambda _, state, prefix, __: self._give(state, prefix))
        backbone.register_load_state_dict_pre_hook(lambda _, state, prefix, *__: self._take(state, prefix))

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within, ``state_dict`` gives whole tensors on each rank, and sends nothing; all ranks enter together."""
        self._whole = {name: whole(p.detach()) for name, p in self.backbone.named_parameters()}
        try:
            yield
        finally:
            self._whole = None

    def _give(self, state: dict[str, Any], prefix: str) -> None:
        for name, tensor in (self._whole or {}).items():
            state[prefix + name] = tensor

    def _take(self, state: dict[str, Any], prefix: str) -> None:
        for name, parameter in self.backbone.named_parameters():
            if prefix + name in state:  # load_state_dict tells which are missing
                state[prefix + name] = split(state[prefix + name], parameter)


def _with_gradient(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    x, *others = args
    return (x if x.requires_grad or not torch.is_grad_enabled() else x.detach().requires_grad_(), *others)


def in_shards(tensor: Tensor) -> bool:
    """Whether a rank has only a part of it."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be in shards; every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own(tensors: Mapping[str, Tensor], *, first: bool) -> dict[str, Tensor]:
    """What a rank keeps in a checkpoint that all write together: its parts, and on the first rank all that is whole."""
    return {
        name: tensor.to_local() if isinstance(tensor, DTensor) else tensor
        for name, tensor in tensors.items()
        if first or isinstance(tensor, DTensor)
    }


def split(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor that every rank has, if ``like`` is in shards."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
