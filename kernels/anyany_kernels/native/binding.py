"""What Python sees of the library: its structures, as ``source/native.h`` has them, and its calls.

Shapes: n rows, D model width, Dh head width, S rows of the cache.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import Structure, c_char_p, c_float, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any, ClassVar

from anyany_kernels.native.build import BuildError, shared_library

FLOAT32, BFLOAT16, INT8, INT4 = range(4)
NO_NORM, RMS_NORM, LAYER_NORM = range(3)
SWIGLU, GELU_TANH, GELU_EXACT = range(3)

MOST_ROWS = 64
"""Of a pass, or of a product."""
MOST_GROUP = 64
"""Query heads that share a key head."""
MOST_WIDTH = 512
"""Of a head."""

_WRONG = {
    1: "a row's slot lies outside the cache",
    2: "an interval leaves the cache",
    3: "there is no memory for the buffers of a pass",
    4: f"more than {MOST_ROWS} rows, {MOST_GROUP} query heads to a key head, or {MOST_WIDTH} numbers in a head",
}


class Vector(Structure):
    """Floats or bfloat16; no ``data`` where there is none."""

    _fields_: ClassVar = [("data", c_void_p), ("kind", c_int32)]


class Matrix(Structure):
    """Weights ``(rows, columns)``, row by row."""

    _fields_: ClassVar = [
        ("data", c_void_p), ("scales", c_void_p), ("bias", Vector),
        ("rows", c_int64), ("columns", c_int64), ("kind", c_int32),
    ]  # fmt: skip


class Norm(Structure):
    """A norm; of kind ``NO_NORM`` where there is none."""

    _fields_: ClassVar = [("weight", Vector), ("bias", Vector), ("eps", c_float), ("kind", c_int32)]


class Layer(Structure):
    """A block: attention, then feed-forward."""

    _fields_: ClassVar = [
        ("mixer_norm", Norm), ("query_norm", Norm), ("key_norm", Norm), ("ff_norm", Norm),
        ("qkv", Matrix), ("out", Matrix), ("up", Matrix), ("down", Matrix),
        ("window", c_int64), ("ff", c_int32),
    ]  # fmt: skip


class Stack(Structure):
    """All layers and the norm behind them."""

    _fields_: ClassVar = [
        ("layers", ctypes.POINTER(Layer)), ("norm", Norm), ("count", c_int64), ("width", c_int64),
        ("heads", c_int64), ("kv_heads", c_int64), ("head_dim", c_int64),
    ]  # fmt: skip


class Pass(Structure):
    """Rows that go through a stack, and where their keys and values go."""

    _fields_: ClassVar = [
        ("x", c_void_p), ("out", c_void_p), ("cos", c_void_p), ("sin", c_void_p), ("intervals", c_void_p),
        ("slots", c_void_p), ("keys", c_void_p), ("values", c_void_p), ("n", c_int64), ("capacity", c_int64),
        ("kind", c_int32), ("cache_kind", c_int32), ("threads", c_int32),
    ]  # fmt: skip


class Library:
    """The calls. Whoever makes one keeps what its structures point to alive, and in its place."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            loaded = ctypes.CDLL(path)
        except OSError as error:
            raise BuildError(f"{path} cannot be loaded: {error}") from None
        self._step = _call(loaded.anyany_step, c_int32, c_void_p, c_void_p)
        self._product = _call(loaded.anyany_product, c_int32, c_void_p, c_void_p, c_void_p, c_int32, c_int64, c_int32)
        self._quantise = _call(loaded.anyany_quantise, c_int32, c_void_p, c_int32, c_void_p, c_void_p)
        self.bytes_of = _call(loaded.anyany_bytes, c_int64, c_int32, c_int64, c_int64)
        """Bytes of a matrix: kind, rows, columns."""
        self.isa: str = _call(loaded.anyany_isa, c_char_p)().decode()
        """The instructions that it was built for."""

    def step(self, stack: Stack, rows: Pass) -> None:
        """Rows through all layers; their keys and values go into the cache.

        Raises:
            ValueError: A slot or an interval lies outside the cache, or something is wider than it may be.
            MemoryError: There is no memory for buffers.
        """
        _raise(self._step(ctypes.addressof(stack), ctypes.addressof(rows)))

    def product(self, matrix: Matrix, x: int, out: int, kind: int, n: int, threads: int) -> None:
        """``out (n, rows)`` = ``x (n, columns)`` times the matrix; both of one kind of floats.

        Args:
            matrix: The weights.
            x: Address of the rows.
            out: Address of what comes out.
            kind: ``FLOAT32`` or ``BFLOAT16``, of both.
            n: At most ``MOST_ROWS``.
            threads: At most.

        Raises:
            ValueError: There are too many rows.
            MemoryError: There is no memory for buffers.
        """
        _raise(self._product(ctypes.addressof(matrix), x, out, kind, n, threads))

    def quantise(self, matrix: Matrix, kind: int, data: int, scales: int) -> None:
        """Fill ``data``, of ``bytes_of``, and for ``INT8`` ``scales``, one float a row, from a matrix of floats.

        Raises:
            MemoryError: There is no memory for a row.
        """
        _raise(self._quantise(ctypes.addressof(matrix), kind, data, scales))


@cache
def library() -> Library:
    """The library of this machine, built if need be.

    Raises:
        BuildError: It cannot be had.
    """
    return Library(str(shared_library()))


def _call(function: Any, result: Any, *arguments: Any) -> Callable[..., Any]:
    function.restype, function.argtypes = result, arguments
    return function


def _raise(code: int) -> None:
    if code == 3:
        raise MemoryError(_WRONG[code])
    if code:
        raise ValueError(_WRONG[code])
