"""Encode once: what frozen encoders and codecs make of an item is looked up before it is computed.

The key of an item is the SHA-256 of everything that its rows follow from: the item as the component prepared it, the
component with its weights, and the precision. Items that are not in the store are encoded in one batch. The rows of
an item may differ in the last bits from batch to batch; what is kept are those of the batch in which it was first met.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anyany.errors import DataError, RecipeError, SpanMismatchError
from anyany.model import Model
from anyany.model.assembly import Producer
from anyany.plugin.components import Prepared
from anyany.plugin.registry import registry
from anyany.plugin.specs import CodecSpec, EncoderSpec
from anyany.training import ledger
from anyany.training.store import Store

FORMAT = 1
"""Of keys: another number finds nothing of what was stored before."""


class Once:
    """Puts a store before the components of a model, until ``close``.

    A component goes through it while it is frozen, without an adapter, and in eval mode, if its spec promises that the
    same input gives the same output (``deterministic``), in any batch (``batched``); any other runs as ever.

    Args:
        model: Of the run, with ``requires_grad`` set as it trains.
        store: Where rows are kept.

    Raises:
        RecipeError: No component could be stored.
    """

    def __init__(self, model: Model, store: Store) -> None:
        self.model, self.store = model, store
        self.plain = dict(model.producers)
        self.items = self.read = 0
        keeps = [(name, spec, config) for name, spec, config in _described(model) if _keeps(spec)]
        if not any(_frozen(model.components[name]) for name, *_ in keeps):
            raise RecipeError(
                "store: the model has no encoder or codec that is frozen and gives the same rows each time; "
                "freeze one, or leave out store"
            )
        for name, spec, config in keeps:
            described = [FORMAT, name, _version(spec), dict(config)]
            model.producers[name] = Looked(self, name, model.components[name], self.plain[name], described)

    def values(self) -> dict[str, float]:
        """``stored``: share of the items since the last call whose rows were read; nothing where there were none."""
        share = {"stored": self.read / self.items} if self.items else {}
        self.items = self.read = 0
        return share

    def close(self) -> None:
        """Write what waits, and let the components run as before."""
        self.model.producers.update(self.plain)
        self.store.flush()


class Looked:
    """Stands for one component: rows from the store where it has them, from the component where not.

    Args:
        once: Holds the store, and counts.
        name: Of the component.
        component: The module.
        produce: Runs it.
        described: What else of it goes into a key: JSON.
    """

    def __init__(
        self, once: Once, name: str, component: nn.Module, produce: Producer, described: Sequence[Any]
    ) -> None:
        self.once, self.name, self.component, self.produce = once, name, component, produce
        self.described = described
        self.state: tuple[tuple[int, int], ...] = ()
        self.digest = ""

    def __call__(self, batch: Sequence[Prepared]) -> Tensor:
        """Rows of all items, in order; gradients do not pass."""
        adapted = self.once.model.adapters.touches(self.name)
        if adapted or not _frozen(self.component) or any(module.training for module in self.component.modules()):
            return self.produce(batch)
        store, device = self.once.store, self.once.model.device
        identity = self._identity()
        keys = [item_key(identity, item, self.name) for item in batch]
        found = store.find(keys)
        self.once.items += len(keys)
        self.once.read += sum(key in found for key in keys)
        missing = {key: item for key, item in zip(keys, batch, strict=True) if key not in found}
        if missing:
            made = dict(zip(missing, self._made(list(missing.values())), strict=True))
            store.put(made)
            found |= made
        return torch.cat([found[key].to(device) for key in keys])

    def _made(self, items: Sequence[Prepared]) -> Sequence[Tensor]:
        lengths = [item.rows for item in items]
        with torch.no_grad():
            rows = self.produce(items)
        if len(rows) != sum(lengths):
            raise SpanMismatchError(
                f"{self.name}: {len(items)} items declared {sum(lengths)} rows, produced {len(rows)}; "
                "prepare() and forward() of the component must agree"
            )
        return torch.split(rows, lengths)

    def _identity(self) -> bytes:
        """What all items of a call have in common; the weights are read again only where they were written to."""
        tensors = chain(self.component.parameters(), self.component.buffers())
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
        if not self.digest or state != self.state:
            self.state, self.digest = state, ledger.digests({self.name: self.component})[self.name]
        kind = self.once.model.device.type
        precision = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else "as the weights"
        text = json.dumps([*self.described, self.digest, precision], sort_keys=True)
        return hashlib.sha256(text.encode()).digest()


def item_key(identity: bytes, item: Prepared, name: str) -> bytes:
    """The key of an item: SHA-256 of ``identity`` and of all that the component sees of the item.

    Raises:
        DataError: An array holds Python objects, whose bytes say nothing.
    """
    coordinates = item.coordinates
    arrays = [(key, np.asarray(value)) for key, value in sorted(item.arrays.items())]
    if coordinates is not None:
        arrays.append(("", np.asarray(coordinates.values)))
    for key, array in arrays:
        if array.dtype.hasobject:
            raise DataError(
                f"{name}: array {key!r} of an item holds Python objects, whose bytes say nothing; "
                "prepare() must give numbers, or train without store"
            )
    shapes = [(key, str(array.dtype), array.shape) for key, array in arrays]
    head = [int(item.rows), item.look, coordinates and coordinates.unit, shapes]
    total = hashlib.sha256(identity + json.dumps(head).encode())
    for _, array in arrays:
        total.update(array.tobytes())
    return total.digest()


def _described(model: Model) -> Iterator[tuple[str, EncoderSpec | CodecSpec, Mapping[str, Any]]]:
    """Name, spec and configuration of every encoder and codec."""
    yield from ((f"encoder/{part.name}", part.spec, part.config) for part in model.encoder_parts)
    yield from ((f"codec/{part.name}", part.spec, part.config) for part in model.decoders)


def _keeps(spec: EncoderSpec | CodecSpec) -> bool:
    """Whether the rows of an item follow from the item alone."""
    return spec.can.deterministic and spec.can.batched


def _frozen(component: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in component.parameters())


def _version(spec: EncoderSpec | CodecSpec) -> str:
    """Of the plugin that declares a spec; empty for one that was registered by hand."""
    return next((record.version for record in registry().records if spec in record.specs), "")
