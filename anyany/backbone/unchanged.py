"""Whether weights are what they were: what was computed from them counts as long as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from anyany.backbone.lora import LoRA


class Unchanged:
    """Remembers tensors by where they lie and how often they were written to, without a look at their numbers.

    Training, loading, casting, moving to a device and merging an adapter are noticed. Writing through ``tensor.data``
    or a NumPy view leaves no trace: whoever does so clears what depends on it.

    Args:
        modules: Whose tensors they are. Hooks upon them count, and the scale of an adapter.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        modules = list(modules)
        self._beside = _beside(modules)
        tensors = list(tensors_of(modules))
        self._marks = [_mark(tensor) for tensor in tensors]
        # Held weakly, a storage is freed as ever, but no other gets its address while this is remembered.
        self._refs = [StorageWeakRef(tensor.untyped_storage()) for tensor in tensors]

    def holds(self, modules: Iterable[nn.Module]) -> bool:
        """Whether these have the same tensors, and none was written to since."""
        modules = list(modules)
        now = [_mark(tensor) for tensor in tensors_of(modules)]
        return None not in now and now == self._marks and _beside(modules) == self._beside


def tensors_of(modules: Iterable[nn.Module]) -> Iterator[Tensor]:
    """Parameters and buffers of modules and all within, in a third of the time that ``parameters()`` takes."""
    for module in _within(modules):
        yield from (tensor for tensor in module._parameters.values() if tensor is not None)
        yield from (tensor for tensor in module._buffers.values() if tensor is not None)


def _within(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        yield module
        waiting.extend(child for child in module._modules.values() if child is not None)


def _beside(modules: Iterable[nn.Module]) -> list[Any]:
    """Scales of adapters, and hooks by the numbers that torch gives once; those that heed adapters are our own."""
    found: list[Any] = []
    for module in _within(modules):
        if isinstance(module, LoRA):
            found.append(module.scale)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            if hooks:
                found += [number for number, hook in hooks.items() if not hasattr(hook, "idle")]
    return found


def _mark(tensor: Tensor) -> tuple[int, int, int, int] | None:
    """``None`` for one that was made in inference mode, where nobody counts what is written."""
    if tensor.is_inference():
        return None
    return tensor.untyped_storage()._cdata, tensor._version, tensor.storage_offset(), tensor.numel()
