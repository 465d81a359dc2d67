"""What an item holds, as a key: by it rows that were computed once are found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anyany.errors import DataError
from anyany.plugin.components import Prepared
from anyany.plugin.registry import registry
from anyany.plugin.specs import CodecSpec, EncoderSpec

if TYPE_CHECKING:
    from anyany.model.model import Model

FORMAT = 1
"""Of keys: another number finds nothing of what was kept before."""


def described(model: Model) -> Iterator[tuple[str, EncoderSpec | CodecSpec, Mapping[str, Any]]]:
    """Name, spec and configuration of every encoder and codec."""
    yield from ((f"encoder/{part.name}", part.spec, part.config) for part in model.encoder_parts)
    yield from ((f"codec/{part.name}", part.spec, part.config) for part in model.decoders)


def repeats(spec: EncoderSpec | CodecSpec) -> bool:
    """Whether the rows of an item follow from the item alone."""
    return spec.can.deterministic and spec.can.batched


def version(spec: EncoderSpec | CodecSpec) -> str:
    """Of the plugin that declares a spec; empty for one that was registered by hand."""
    return next((record.version for record in registry().records if spec in record.specs), "")


def precision(device: torch.device) -> str:
    """What autocast says for a kind of device."""
    kind = device.type
    return str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else "as the weights"


def identity(
    name: str, spec: EncoderSpec | CodecSpec, config: Mapping[str, Any], device: torch.device, weights: str = ""
) -> bytes:
    """What all items of a component have in common.

    Args:
        name: Of the component.
        spec: Of the component.
        config: What it was built with.
        device: Where it runs.
        weights: A digest of them, for keys that outlive the process.
    """
    text = json.dumps([FORMAT, name, version(spec), dict(config), weights, precision(device)], sort_keys=True)
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
