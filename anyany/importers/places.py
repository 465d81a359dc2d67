"""Where each tensor of a model lies in a foreign checkpoint: under which names, from which row on, which way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from anyany.model.model import Model
from anyany.plugin import ForeignEncoder, Names

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """What makes up one of our tensors.

    Attributes:
        shapes: Their tensors in order, each with the shape that it has there.
        transposed: They lie there as ``(inputs, outputs)``.
    """

    shapes: dict[str, Shape]
    transposed: bool

    def pieces(self, own: Tensor) -> dict[str, Tensor]:
        """Views of one of our tensors that correspond to theirs, each the way round that they are there."""
        matrix = own.flatten(0, 1) if own.dim() == 3 else own  # experts lie one behind the other
        lengths = [shape[-1] if self.transposed else shape[0] for shape in self.shapes.values()]
        views = matrix.split(lengths)
        return dict(zip(self.shapes, (v.t() if self.transposed else v for v in views), strict=True))


def places(model: Model, names: Names, encoders: Sequence[ForeignEncoder] = ()) -> dict[str, Place]:
    """The place of each tensor, by our key in ``model.state_dict()``.

    Args:
        model: Backbone, text, and encoders with their projectors.
        names: Of the tensors of backbone and text.
        encoders: With the names of theirs.
    """
    out = {}
    for part in ("backbone", "text"):
        for key, own in model.components[part].state_dict().items():
            out[f"components.{part}.{key}"] = _place(model, f"{part}.{key}", tuple(own.shape), names)
    for encoder in encoders:
        tables = {f"encoder/{encoder.id}": encoder.names, f"projector/{encoder.id}": encoder.projector_names}
        for part, table in tables.items():
            for key, own in model.components[part].state_dict().items():
                out[f"components.{part}.{key}"] = _place(model, key, tuple(own.shape), table)
    return out


def _place(model: Model, key: str, shape: Shape, names: Names) -> Place:
    module, _, kind = key.rpartition(".")
    if key in names.top:
        transposed = key in names.transposed
        return Place({names.top[key]: shape[::-1] if transposed else shape}, transposed)
    if module in names.top:
        return Place({f"{names.top[module]}.{kind}": shape}, False)
    layer, _, inner = key.removeprefix("backbone.").removeprefix("blocks.").partition(".")
    before = names.layer.format(layer=layer)
    if inner in names.block:  # a tensor of experts
        count, rows, *rest = shape
        theirs = [name.format(expert=e) for e in range(count) for name in names.block[inner]]
        each = (rows // len(names.block[inner]), *rest)
        return Place({before + name: each for name in theirs}, False)
    module = inner.rpartition(".")[0]
    theirs = [f"{before}{name}.{kind}" for name in names.block[module]]
    transposed = module in names.transposed and len(shape) == 2
    shapes = [(rows, *shape[1:]) for rows in _rows(model, int(layer), module, shape[0], len(theirs))]
    turned = [each[::-1] if transposed else each for each in shapes]
    return Place(dict(zip(theirs, turned, strict=True)), transposed)


def _rows(model: Model, layer: int, module: str, total: int, count: int) -> list[int]:
    """Rows of each of their tensors."""
    if module != "mixer.qkv" or count == 1:
        return [total // count] * count
    mixer = model.backbone.blocks[layer].mixer
    return [heads * mixer.head_dim for heads in (mixer.heads, mixer.kv_heads, mixer.kv_heads)]  # type: ignore[union-attr,operator,misc]
