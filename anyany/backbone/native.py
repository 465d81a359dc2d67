"""A pass of a few rows over the cache by the native library: all layers in one call.

What the library does not know goes through ``few_rows`` or the blocks; both give what this gives, up to rounding.

Shapes: n rows, D model width, H query heads, Hkv key heads, Dh head width, S rows of the cache, F hidden width.
"""

from __future__ import annotations

import ctypes
from collections.abc import Set
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from anyany.backbone.blocks import GELUMLP, Attention, Block, SwiGLU
from anyany.backbone.cache import KVPool
from anyany.backbone.norms import RMSNorm
from anyany.backbone.positions import Rotary
from anyany.errors import LayoutError
from anyany.native import Unfit, Weights, declined, for_library, library, why_not
from anyany.native.weights import FLOATS, ByColumns, kind_of

if TYPE_CHECKING:
    from anyany.backbone.decoder import Backbone
    from anyany_kernels.native import Library
    from anyany_kernels.native import binding as native

_ready: WeakKeyDictionary[nn.Module, Ready] = WeakKeyDictionary()
_PLAIN = vars(nn.Module()).keys()


def native_rows(
    backbone: Backbone, x: Tensor, coordinates: Tensor, intervals: Tensor, cache: KVPool, slots: slice | Tensor
) -> Tensor | None:
    """Rows ``(n, D)`` -> hidden states ``(n, D)``, arguments as of ``Backbone.forward``; ``None``: not this way.

    Raises:
        NativeError: The user insists on the library, and it does not know this backbone.
        LayoutError: A slot or an interval lies outside the cache.
    """
    found = library()
    if found is None and backbone.weights is not None:
        declined("backbone", why_not(), backbone.weights)
    if found is None or not for_library(x, len(x)):
        return None
    try:
        kind_of(x)
        ready = prepare(backbone, found)
        ready.check(cache)
    except Unfit as unfit:
        declined("backbone", str(unfit), backbone.weights)
        return None
    return ready(x, coordinates, intervals, cache, slots)


def suits(backbone: Backbone) -> bool:
    """Whether passes of a few rows go through the library, once matrices lie row by row."""
    found = library()
    if found is None:
        return False
    try:
        prepare(backbone, found)
    except ByColumns:
        return True
    except Unfit:
        return False
    return True


def prepare(backbone: Backbone, found: Library) -> Ready:
    """What the library needs of a backbone; made anew when weights have moved.

    Raises:
        Unfit: The library does not know it.
    """
    ready = _ready.get(backbone)
    if ready is None or ready.weights.form != backbone.weights or not ready.weights.hold():
        _ready.pop(backbone, None)
        ready = Ready(backbone, found)
        if not ready.weights.hold():
            raise ByColumns
        _ready[backbone] = ready
    return ready


class Ready:
    """The structures of one backbone.

    Args:
        backbone: To be read.
        found: The library.

    Raises:
        Unfit: The library does not know it.
    """

    def __init__(self, backbone: Backbone, found: Library) -> None:
        from anyany_kernels.native import binding as native

        self.native, self.weights = native, Weights(found, backbone.weights)
        _only(backbone, {"width", "scheme", "config", "recompute", "weights"}, {"blocks", "norm", "rotary", "learned"})
        if backbone.rotary is not None:
            self.weights.child(backbone, "rotary", Rotary)
        blocks = self.weights.child(backbone, "blocks", nn.ModuleList)
        self.rotary, self.layers = backbone.rotary, len(blocks)
        first: Attention = self.weights.child(self.weights.child(blocks, "0", Block), "mixer", Attention)
        self.heads, self.kv_heads, self.head_dim = first.heads, first.kv_heads, first.head_dim
        self.width = backbone.width
        if self.head_dim > native.MOST_WIDTH or self.heads > native.MOST_GROUP * self.kv_heads:
            raise Unfit(f"{self.heads} heads of {self.head_dim} numbers over {self.kv_heads} key heads are too wide")
        self._structures = (native.Layer * self.layers)(*(self._layer(blocks, str(i)) for i in range(self.layers)))
        self.stack = native.Stack(
            self._structures, self._norm(backbone, "norm", self.width), self.layers, self.width,
            self.heads, self.kv_heads, self.head_dim,
        )  # fmt: skip

    def _layer(self, blocks: nn.Module, name: str) -> native.Layer:
        native = self.native
        block = self.weights.child(blocks, name, Block)
        _only(block, set(), {"mixer_norm", "mixer", "ff_norm", "ff"})
        mixer = self.weights.child(block, "mixer", Attention)
        _only(mixer, {"heads", "kv_heads", "head_dim", "window"}, {"qkv", "out", "query_norm", "key_norm"})
        if (mixer.heads, mixer.kv_heads, mixer.head_dim) != (self.heads, self.kv_heads, self.head_dim):
            raise Unfit("layers have different heads")
        ff = self.weights.child(block, "ff", SwiGLU, GELUMLP)
        gated, heads = type(ff) is SwiGLU, self.heads * self.head_dim
        _only(ff, set() if gated else {"form"}, {"gate_up" if gated else "up", "down"})
        up, down = self._linear(ff, "gate_up" if gated else "up"), self._linear(ff, "down")
        qkv, out, hidden = self._linear(mixer, "qkv"), self._linear(mixer, "out"), down.in_features
        both, total = (2 if gated else 1) * hidden, heads + 2 * self.kv_heads * self.head_dim
        return native.Layer(
            mixer_norm=self._norm(block, "mixer_norm", self.width), ff_norm=self._norm(block, "ff_norm", self.width),
            query_norm=self._norm(mixer, "query_norm", self.head_dim),
            key_norm=self._norm(mixer, "key_norm", self.head_dim),
            qkv=self.weights.linear(qkv, total, self.width), out=self.weights.linear(out, self.width, heads),
            up=self.weights.linear(up, both, self.width), down=self.weights.linear(down, self.width, hidden),
            window=mixer.window or 0,
            ff=native.SWIGLU if gated else native.GELU_TANH if ff.form == "tanh" else native.GELU_EXACT,
        )  # fmt: skip

    def _linear(self, parent: nn.Module, name: str) -> nn.Linear:
        found: nn.Linear = self.weights.child(parent, name, nn.Linear)
        return found

    def _norm(self, parent: nn.Module, name: str, width: int) -> native.Norm:
        native = self.native
        found: Any = self.weights.child(parent, name, RMSNorm, nn.LayerNorm, type(None))
        if found is None:
            return native.Norm(kind=native.NO_NORM)
        layer = type(found) is nn.LayerNorm
        eps = torch.finfo(torch.float32).eps if found.eps is None else found.eps
        bias = self.weights.vector(found, "bias", width) if layer else native.Vector(None, 0)
        kind = native.LAYER_NORM if layer else native.RMS_NORM
        return native.Norm(self.weights.vector(found, "weight", width), bias, eps, kind)

    def check(self, cache: KVPool) -> None:
        """Hold a cache to what the library writes into.

        Raises:
            Unfit: It is of another type, or of another shape.
        """
        keys, values = cache.keys, cache.values
        shape = (self.layers, cache.capacity, self.kv_heads, self.head_dim)
        for pages in (keys, values):
            if pages.dtype not in FLOATS or tuple(pages.shape) != shape or not pages.is_contiguous():
                raise Unfit(
                    f"the cache is {tuple(pages.shape)} of {pages.dtype}, and not {shape} of float32 or bfloat16"
                )
        if keys.dtype is not values.dtype:
            raise Unfit("keys and values are of different types")

    def __call__(
        self, x: Tensor, coordinates: Tensor, intervals: Tensor, cache: KVPool, slots: slice | Tensor
    ) -> Tensor:
        """As ``native_rows``."""
        native, n = self.native, len(x)
        taken = range(slots.start, slots.stop) if isinstance(slots, slice) else slots.tolist()
        if x.shape[-1] != self.width or len(taken) != n or tuple(intervals.shape) != (n, 2, 2):
            raise LayoutError(
                f"backbone: expected rows (n, {self.width}) with a slot and two intervals each, got {tuple(x.shape)}, "
                f"{len(taken)} slots and {tuple(intervals.shape)}"
            )
        x, intervals = x.contiguous(), intervals.to(torch.int32).contiguous()
        out, turn = torch.empty_like(x), None if self.rotary is None else self.rotary(coordinates)
        rows = native.Pass(
            x=x.data_ptr(), out=out.data_ptr(), intervals=intervals.data_ptr(), n=n, capacity=cache.capacity,
            slots=ctypes.addressof(places := (ctypes.c_int64 * n)(*taken)),
            keys=cache.keys.data_ptr(), values=cache.values.data_ptr(), kind=FLOATS[x.dtype],
            cache_kind=FLOATS[cache.keys.dtype], threads=self.weights.threads(n),
        )  # fmt: skip
        if turn is not None:
            cos, sin = (angles.float().contiguous() for angles in turn)
            rows.cos, rows.sin = cos.data_ptr(), sin.data_ptr()
        try:
            self.weights.library.step(self.stack, rows)
        except ValueError as error:
            raise LayoutError(f"backbone: {error}; {cache.capacity} rows, slots {list(places)}") from None
        return out


def _only(module: nn.Module, attributes: Set[str], children: Set[str]) -> None:
    """A module with what the library knows of it, and nothing beside that is not ``None``.

    Raises:
        Unfit: It has more.
    """
    own = vars(module)
    more = {name for name in own.keys() - _PLAIN - attributes if own[name] is not None}
    more |= {name for name, child in module._modules.items() if child is not None and name not in children}
    if more:
        raise Unfit(f"a {type(module).__name__} has {', '.join(sorted(more))}")
