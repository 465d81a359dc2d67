"""Encode once: what frozen encoders and codecs make of an item is looked up before it is computed.

The key of an item is the SHA-256 of everything that its rows follow from: the item as the component prepared it, the
component with its weights, and the precision. Items that are not in the store are encoded in one batch. The rows of
an item may differ in the last bits from batch to batch; what is kept are those of the batch in which it was first met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from anyany.backbone.unchanged import Unchanged
from anyany.errors import RecipeError, SpanMismatchError
from anyany.model import Model
from anyany.model.assembly import Producer
from anyany.model.content import described, identity, item_key, repeats
from anyany.plugin.components import Prepared
from anyany.training import ledger
from anyany.training.store import Store


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
        keeps = [(name, spec, config) for name, spec, config in described(model) if repeats(spec)]
        if not any(_frozen(model.components[name]) for name, *_ in keeps):
            raise RecipeError(
                "store: the model has no encoder or codec that is frozen and gives the same rows each time; "
                "freeze one, or leave out store"
            )
        for name, spec, config in keeps:
            common = partial(identity, name, spec, config, model.device)
            model.producers[name] = Looked(self, name, model.components[name], self.plain[name], common)

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
        common: Makes of a digest of its weights what the keys of all items have in common.
    """

    def __init__(
        self, once: Once, name: str, component: nn.Module, produce: Producer, common: Callable[[str], bytes]
    ) -> None:
        self.once, self.name, self.component, self.produce = once, name, component, produce
        self.common = common
        self.seen: Unchanged | None = None
        self.digest = ""

    def __call__(self, batch: Sequence[Prepared]) -> Tensor:
        """Rows of all items, in order; gradients do not pass."""
        adapted = self.once.model.adapters.touches(self.name)
        if adapted or not _frozen(self.component) or any(module.training for module in self.component.modules()):
            return self.produce(batch)
        store, device = self.once.store, self.once.model.device
        common = self._common()
        keys = [item_key(common, item, self.name) for item in batch]
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

    def _common(self) -> bytes:
        """What all items of a call have in common; the weights are read again only where they were written to."""
        if self.seen is None or not self.seen.holds([self.component]):
            self.seen = Unchanged([self.component])
            self.digest = ledger.digests({self.name: self.component})[self.name]
        return self.common(self.digest)


def _frozen(component: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in component.parameters())
