"""Prompts for the engine: planned without a weight, then made into rows, all that begin in a step at once.

What an encoder or codec made of an item is looked up before it is made; an item whose rows the cache of keys and values
holds is not asked for at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anyany.engine import Opening
from anyany.engine.opening import item_content, token_content
from anyany.errors import CacheError, DataError
from anyany.model import assembly
from anyany.model.content import described, identity, item_key, repeats
from anyany.model.document import Document
from anyany.plugin.components import Prepared
from anyany.sequence import Layout

if TYPE_CHECKING:
    from anyany.model.model import Model


@dataclass(frozen=True)
class PlannedReply:
    """A prompt with the reply opened, of which no row has been made (see ``engine.opening.Planned``).

    Attributes:
        document: Its pieces.
        layout: Of them.
        keys: What the item of each piece holds; ``None`` for text, and for an item that is never found again.
        content: ``(k, 4)``.
    """

    document: Document
    layout: Layout
    keys: tuple[bytes | None, ...]
    content: np.ndarray

    @property
    def rows(self) -> int:
        """Rows of the prompt."""
        return self.layout.rows

    @property
    def sees(self) -> np.ndarray:
        """``(n,)``."""
        return self.layout.intervals[:, 1, 1].numpy()


def plan_reply(model: Model, messages: Any, rows: int | None = None) -> PlannedReply:
    """Plan a prompt, with the reply opened.

    Raises:
        PromptError: There is no row at all.
        CacheError: It has more than ``rows`` rows.
    """
    document = model.planner.plan(messages, reply=True)
    if rows is not None and document.rows > rows:
        raise CacheError(f"prompt: needs {document.rows} rows, the cache has {rows}; shorten it, or raise cache_rows")
    assembly.check_rows(document.pieces)
    layout = Layout.pack([document.spans], model.backbone.scheme)
    keys = _keys(model, document)
    known = []
    for piece, key in zip(document.pieces, keys, strict=True):
        if piece.prepared is not None and key is None:
            break
        known.append(token_content(piece.ids) if key is None else item_content(key, piece.span.rows))
    return PlannedReply(document, layout, keys, np.concatenate([np.empty((0, 4), np.uint64), *known]))


def open_replies(model: Model, prompts: Sequence[tuple[PlannedReply, int]]) -> list[Opening]:
    """Rows of prompts from ``plan_reply``, each without so many of its first rows."""
    rest, lengths = [], []
    keys: dict[int, bytes] = {}
    for planned, before in prompts:
        pieces = planned.document.pieces
        ends = list(accumulate(piece.span.rows for piece in pieces))
        first = next(index for index, end in enumerate(ends) if end > before)
        rest.append(Document(pieces[first:]))
        lengths.append((planned.rows - ends[first] + pieces[first].span.rows, planned.rows - before))
        keys |= {id(p.prepared): k for p, k in zip(pieces, planned.keys, strict=True) if k is not None}
    producers = {name: partial(_produce, model, name, produce, keys) for name, produce in model.producers.items()}
    rows = assembly.embed(model, assembly.placed(rest), producers=producers).rows
    made = rows.split([made for made, _ in lengths])
    return [
        _opening(planned, before, own[len(own) - wanted :])
        for (planned, before), own, (_, wanted) in zip(prompts, made, lengths, strict=True)
    ]


def _opening(planned: PlannedReply, before: int, rows: Tensor) -> Opening:
    layout = planned.layout
    latest = {p.media.modality: p.media for p in planned.document.pieces if p.media is not None}
    sees = layout.intervals[before:, 1, 1] - before
    base = float(layout.coordinates.max()) + 1.0
    return Opening(rows, layout.coordinates[before:], sees, base, latest, before)


def _keys(model: Model, document: Document) -> tuple[bytes | None, ...]:
    """What each item holds, where equal items give equal rows and anything is kept."""
    if not (model.caches.features.budget or model.caches.prefix_bytes):
        return (None,) * len(document.pieces)
    common: dict[str, bytes | None] = {}
    specs = {name: (spec, config) for name, spec, config in described(model)}
    out: list[bytes | None] = []
    for piece in document.pieces:
        if piece.prepared is None:
            out.append(None)
            continue
        name = f"{'encoder' if piece.span.view == 'features' else 'codec'}/{piece.span.component}"
        if name not in common:
            spec, config = specs[name]
            steady = repeats(spec) and not any(module.training for module in model.components[name].modules())
            common[name] = identity(name, spec, config, model.device) if steady else None
        out.append(_key(common[name], piece.prepared, name))
    return tuple(out)


def _key(common: bytes | None, item: Prepared, name: str) -> bytes | None:
    try:
        return None if common is None else item_key(common, item, name)
    except DataError:  # its arrays hold objects, whose bytes say nothing
        return None


def _produce(
    model: Model, name: str, produce: Callable[[Sequence[Prepared]], Tensor], keys: dict[int, bytes],
    items: Sequence[Prepared],
) -> Tensor:  # fmt: skip
    """Rows of all items; equal ones are made once, and those that were made before are looked up."""
    features, component = model.caches.features, model.components[name]
    names = [keys.get(id(item)) for item in items]
    if None in names or not features.budget or model.adapters.touches(name):
        return produce(items)
    found = features.find(name, component, names)  # type: ignore[arg-type]
    missing = {key: item for key, item in zip(names, items, strict=True) if key not in found}
    if missing:
        rows = produce(list(missing.values()))
        lengths = [item.rows for item in missing.values()]
        if len(rows) != sum(lengths):
            return produce(items)  # whose rows are wrong is found by the assembly
        made = dict(zip(missing, rows.split(lengths), strict=True))
        features.put(name, made)  # type: ignore[arg-type]
        found |= made  # type: ignore[arg-type]
    return torch.cat([found[key] for key in names])  # type: ignore[index]
