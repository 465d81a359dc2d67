"""The adapters of a model: what they touch, which is in use, and merging them into the weights."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from anyany.backbone.lora import LoRA, attach, current
from anyany.errors import AdapterError

NONE = "none"
"""Stands for no adapter, where a name is asked for."""


class Adapters(nn.Module):
    """Adapters by name over the components of a model.

    Args:
        components: As in ``Model.components``.

    Attributes:
        layers: Projections that can be touched, by ``<component>.<module>``.
        merged: Adapters that are in the weights.
        active: The adapter of ``use``.
    """

    def __init__(self, components: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._components = dict(components)  # no modules of this one: they are the model's
        # Plain projections alone: of nn.MultiheadAttention the matrix is read, and the module never called.
        self.layers: dict[str, nn.Linear] = {}
        self._component: dict[str, str] = {}
        for component, whole in components.items():
            for path, module in whole.named_modules():
                if type(module) is nn.Linear:
                    self.layers[f"{component}.{path}"] = module
                    self._component[f"{component}.{path}"] = component
        self._hooks: dict[nn.Linear, RemovableHandle] = {}
        self.by_name = nn.ModuleDict()
        self.merged: list[str] = []
        self._base: dict[nn.Linear, Tensor] = {}  # weights of projections that a merged adapter touches, without it
        self.active: str | None = None

    def __len__(self) -> int:
        return len(self.by_name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __getitem__(self, name: str) -> LoRA:
        if name not in self.by_name:
            close = difflib.get_close_matches(name, list(self.by_name), 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(self.by_name) or 'none'}"
            raise AdapterError(f"adapter {name!r}: the model has no such adapter; {hint}")
        return self.by_name[name]  # type: ignore[return-value]

    def add(self, name: str, targets: Sequence[str], *, rank: int = 8, alpha: float | None = None) -> LoRA:
        """A new adapter that changes nothing yet.

        Args:
            name: Of the adapter.
            targets: Components, of which all projections are touched: ``backbone``, ``head/image/fsq``; ``encoder/``
                stands for all that begin with it. Behind a colon, a pattern of modules: ``backbone:*.mixer.qkv``.
            rank: Of its matrices.
            alpha: Its outputs are scaled by ``alpha / rank``; ``2 * rank`` if not given.

        Raises:
            AdapterError: A target matches no projection, or the name is taken.
        """
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise AdapterError(f"adapter {name!r}: expected a rank from 1, got {rank!r}")
        if isinstance(targets, str):
            raise AdapterError(f"adapter {name!r}: expected a list of targets, such as [{targets!r}], got a string")
        layers = {layer: linear for target in targets for layer, linear in self._matching(name, target)}
        if not layers:
            raise AdapterError(f"adapter {name!r}: expected at least one target, such as ['backbone']")
        return self.put(name, LoRA(layers, rank=rank, alpha=2.0 * rank if alpha is None else float(alpha)))

    def put(self, name: str, adapter: LoRA) -> LoRA:
        """Take in an adapter whose projections are those of this model."""
        if name in self.by_name or name == NONE or not name or "." in name:
            raise AdapterError(f"adapter {name!r}: expected a name without dots that is not taken, and not {NONE!r}")
        self.by_name[name] = adapter.train(self.training)
        for linear in adapter.layers.values():
            if linear not in self._hooks:
                self._hooks[linear] = attach(linear, self.in_use)
        return adapter

    def remove(self, name: str) -> None:
        """Forget an adapter.

        Raises:
            AdapterError: There is none of that name, or it is merged.
        """
        gone = self._usable(name)
        del self.by_name[name]
        self.active = None if self.active == name else self.active
        kept = [other for other in self.by_name.values() if isinstance(other, LoRA)]
        for linear in gone.layers.values():
            if not any(other.touches(linear) for other in kept):
                self._hooks.pop(linear).remove()

    def use(self, name: str | None) -> None:
        """Use an adapter wherever none is asked for by name; ``None`` for none."""
        if name is not None:
            self._usable(name)
        self.active = name

    def in_use(self) -> LoRA | None:
        """The adapter of ``use``."""
        return None if self.active is None else self[self.active]

    def touches(self, component: str) -> bool:
        """Whether what is in use here and now adds anything to a component."""
        return any(self._component[layer] == component for adapter in current(self.in_use) for layer in adapter.layers)

    def chosen(self, name: str | None) -> LoRA | None:
        """The adapter that a request asks for by name; ``None`` asks for that of ``use``, ``"none"`` for no one."""
        return self.in_use() if name is None else None if name == NONE else self._usable(name)

    def merge(self, name: str) -> None:
        """Add an adapter to the weights, where it costs no time; then it cannot be used beside them.

        The weights that it touches are kept, for ``unmerge``.
        """
        adapter = self._usable(name)
        self.merged.append(name)
        self.active = None if self.active == name else self.active
        self._weigh(adapter.layers.values())

    def unmerge(self, name: str) -> None:
        """Take a merged adapter out of the weights again, bit for bit."""
        adapter = self[name]
        if name not in self.merged:
            raise AdapterError(f"adapter {name!r}: is not merged, so that it cannot be taken out")
        self.merged.remove(name)
        self._weigh(adapter.layers.values())

    @torch.no_grad()
    def _weigh(self, linears: Iterable[nn.Linear]) -> None:
        """Make weights of the base, and of what the merged adapters add."""
        merged = [self[name] for name in self.merged]
        for linear in linears:
            base = self._base.setdefault(linear, linear.weight.detach().clone())
            touching = [adapter for adapter in merged if adapter.touches(linear)]
            linear.weight.copy_(base + sum(adapter.change(linear) for adapter in touching) if touching else base)
            if not touching:
                del self._base[linear]

    def _usable(self, name: str) -> LoRA:
        adapter = self[name]
        if name in self.merged:
            raise AdapterError(f"adapter {name!r}: is merged into the weights, and would count twice; unmerge it first")
        return adapter

    def _matching(self, name: str, target: str) -> Iterator[tuple[str, nn.Linear]]:
        """Projections that a target matches, by ``<component>.<module>``."""
        pattern, _, inner = target.partition(":")
        found = False
        for layer, linear in self.layers.items():
            component = self._component[layer]
            path = layer.removeprefix(f"{component}.")
            whole = component == pattern or (pattern.endswith("/") and component.startswith(pattern))
            if whole and fnmatchcase(path, inner or "*"):
                found = True
                yield layer, linear
        if not found:
            close = difflib.get_close_matches(pattern, self._components, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"components are {', '.join(self._components)}"
            raise AdapterError(
                f"adapter {name!r}: the target {target!r} matches no projection; {hint} "
                "Behind a colon stands a pattern of modules, such as 'backbone:*.qkv'"
            )

    def digest(self, layers: Iterable[str]) -> str:
        """SHA-256 of the components that projections belong to, as they are without merged adapters.

        In bfloat16, so that it does not depend on the type that the weights were loaded in.

        Raises:
            AdapterError: An adapter is merged, so that these are the weights of no base.
        """
        if self.merged:
            raise AdapterError(f"adapters: {self.merged[0]!r} is merged into the weights; unmerge it first")
        total = hashlib.sha256()
        for component in sorted({self._component[layer] for layer in layers}):
            for name, tensor in sorted(self._components[component].state_dict().items()):
                plain = tensor.detach().to("cpu", torch.bfloat16 if tensor.is_floating_point() else tensor.dtype)
                total.update(f"{component} {name} {tuple(tensor.shape)}".encode())
                total.update(plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return total.hexdigest()
