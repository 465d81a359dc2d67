"""What a model keeps from request to request: rows that encoders made of media, and rows of the cache.

Both count only as long as the weights are what they were (``backbone.unchanged``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anyany.backbone.unchanged import Unchanged
from anyany.engine import Prefixes
from anyany.errors import RequestError
from anyany.model.content import precision

if TYPE_CHECKING:
    from anyany.model.model import Model

FEATURE_BYTES = 256 << 20
"""Of encoded media: some 400 pictures of 729 rows of 1,152 numbers in bfloat16, without their weight in any model."""
PREFIX_BYTES = 1 << 30
"""Of a pool of keys and values that stays between calls."""


class Features:
    """Rows that encoders and codecs made of media items, by content; what was used least recently goes first.

    Args:
        budget: Bytes that it may hold; 0 keeps nothing.

    Attributes:
        bytes: That it holds.
        hits: Items that were found; ``misses``: those that were encoded.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = self.hits = self.misses = 0
        self._rows: OrderedDict[tuple[str, bytes], Tensor] = OrderedDict()
        self._weights: dict[str, Unchanged] = {}
        self._lock = Lock()  # streams of asyncio run in threads

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """Forget all rows."""
        with self._lock:
            self._rows.clear()
            self.bytes = 0

    def find(self, name: str, component: torch.nn.Module, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        """Rows of those keys that are there, if the component is what it was; otherwise its rows are forgotten."""
        with self._lock:
            if not (name in self._weights and self._weights[name].holds([component])):
                self._weights[name] = Unchanged([component])
                for old in [entry for entry in self._rows if entry[0] == name]:
                    self.bytes -= self._rows.pop(old).nbytes
            found = {key: self._rows[name, key] for key in keys if (name, key) in self._rows}
            for key in found:
                self._rows.move_to_end((name, key))
            self.hits += len(found)
            return found

    def put(self, name: str, made: Mapping[bytes, Tensor]) -> None:
        """Keep rows that were just made, as far as they fit."""
        with self._lock:
            self.misses += len(made)
            for key, rows in made.items():
                if rows.nbytes > self.budget or (name, key) in self._rows:
                    continue
                self._rows[name, key] = rows.clone()  # a part of a batch would hold all of it
                self.bytes += rows.nbytes
                while self.bytes > self.budget:
                    self.bytes -= self._rows.popitem(last=False)[1].nbytes


@dataclass(frozen=True)
class Lent:
    """A pool, the weights that its rows were computed with, and how: form of weights, positions, precision."""

    prefixes: Prefixes
    weights: Unchanged
    form: tuple[Any, ...]


class Caches:
    """The caches of one model; a copy of a model begins with empty ones.

    Args:
        features: Bytes of encoded media.
        prefixes: Bytes that the keys and values of finished requests may take; a pool that is larger does not stay
            between calls. 0 also shares nothing between the requests of one call.
    """

    def __init__(self, features: int = FEATURE_BYTES, prefixes: int = PREFIX_BYTES) -> None:
        for name, size in (("features", features), ("prefixes", prefixes)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise RequestError(f"caches: {name}: expected a number of bytes, 0 for none, got {size!r}")
        self.features, self.prefix_bytes = Features(features), prefixes
        self._kept: Lent | None = None
        self._lock = Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Caches:
        return Caches(self.features.budget, self.prefix_bytes)

    def clear(self) -> None:
        """Forget everything, as is needed after weights were written to through ``tensor.data``."""
        self.features.clear()
        with self._lock:
            self._kept = None

    def status(self) -> dict[str, int]:
        """What there is, by name.

        Bytes, hits and misses of features; of the pool that stays its bytes, the rows that are kept in it, how many
        prompts have found rows in it, and how many rows.
        """
        features, kept = self.features, None if self._kept is None else self._kept.prefixes
        return {
            "feature_bytes": features.bytes, "feature_hits": features.hits, "feature_misses": features.misses,
            "prefix_bytes": 0 if kept is None else kept.pool.memory(),
            "prefix_rows": 0 if kept is None else kept.kept,
            "prefix_hits": 0 if kept is None else kept.hits,
            "prefix_hit_rows": 0 if kept is None else kept.rows,
        }  # fmt: skip

    def lend(self, model: Model, rows: int) -> Lent | None:
        """A pool of ``rows`` rows for one engine alone, with what earlier requests left in it; ``None``: no sharing.

        A model in training mode shares nothing: its rows may be drawn.
        """
        if not self.prefix_bytes or model.training:
            return None
        form = (model.backbone.weights, model.backbone.scheme, precision(model.device))
        with self._lock:
            kept, self._kept = self._kept, None
        weight = next(model.backbone.parameters())
        if kept is not None and kept.form == form and kept.weights.holds([model.components]):
            keys = kept.prefixes.pool.keys
            if (keys.shape[1], keys.device, keys.dtype) == (rows, weight.device, weight.dtype):
                return kept
        pool = model.backbone.new_pool(rows, device=weight.device, dtype=weight.dtype)
        return Lent(Prefixes(pool), Unchanged([model.components]), form)

    def give_back(self, lent: Lent) -> None:
        """Keep a pool for the next call, if it is not too large; of two the later."""
        if lent.prefixes.pool.memory() <= self.prefix_bytes:
            with self._lock:
                self._kept = lent
