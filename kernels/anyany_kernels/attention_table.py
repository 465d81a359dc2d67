"""Tile sizes of interval attention by kernel, architecture, bytes of an element, and head width.

Nothing is tuned at run time. The sizes fit the shared memory of the architecture, and those of the main
configurations, half precision up to a head width of 128, spill no register (``python -m anyany_kernels.aot``). None has
been timed on a GPU yet.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from anyany_kernels.device import INTERPRETED
from anyany_kernels.errors import KernelValueError

WIDEST = 256


class Config(NamedTuple):
    """One way to compile a kernel.

    Attributes:
        rows: Lines of a row tile; a line is one query head of one row.
        keys: Keys of a key tile.
        warps: Groups of 32 (AMD: 64) threads of a program.
        stages: Key tiles in flight.
    """

    rows: int
    keys: int
    warps: int
    stages: int


Table = dict[tuple[int, int], Config]
"""By bytes of an element and padded head width."""


def _table(*configs: tuple[int, int, int, int]) -> Table:
    """Head widths 64, 128 and 256 in 2 bytes, then in 4."""
    keys = [(size, width) for size in (2, 4) for width in (64, 128, 256)]
    return {key: Config(*config) for key, config in zip(keys, configs, strict=True)}


def _tables(ampere: Table, hopper: Table, blackwell: Table, amd: Table) -> dict[str, Table]:
    """GPUs of one generation differ in shared memory alone, and these tiles fit the smallest of them."""
    small = _table(*[(32, 32, 4, 1)] * 6)
    nvidia = {"sm_80": ampere, "sm_86": ampere, "sm_90": hopper, "sm_100": blackwell}
    return {**nvidia, "gfx942": amd, "interpreter": small}


FORWARD = _tables(
    _table((128, 32, 8, 2), (64, 64, 8, 2), (64, 32, 8, 1), (32, 32, 8, 1), (16, 16, 4, 1), (16, 16, 4, 1)),
    _table((128, 128, 8, 3), (128, 64, 8, 3), (128, 32, 8, 2), (32, 32, 8, 1), (16, 16, 4, 1), (16, 16, 4, 1)),
    _table((128, 64, 8, 3), (128, 64, 8, 3), (128, 32, 8, 2), (32, 32, 8, 1), (16, 16, 4, 1), (16, 16, 4, 1)),
    _table((64, 64, 4, 1), (64, 32, 4, 1), (32, 32, 4, 1), (32, 32, 4, 1), (32, 16, 4, 1), (16, 16, 4, 1)),
)
QUERIES = _tables(
    _table((64, 32, 8, 1), (64, 32, 8, 1), (32, 32, 4, 1), (32, 32, 8, 1), (32, 32, 8, 1), (16, 16, 4, 1)),
    _table((128, 64, 8, 2), (64, 64, 8, 2), (32, 32, 4, 2), (32, 32, 8, 1), (32, 32, 8, 1), (16, 16, 4, 1)),
    _table((64, 64, 8, 2), (64, 64, 8, 2), (32, 32, 4, 2), (32, 32, 8, 1), (32, 32, 8, 1), (16, 16, 4, 1)),
    _table((64, 32, 4, 1), (32, 32, 4, 1), (32, 16, 4, 1), (32, 16, 4, 1), (16, 16, 4, 1), (16, 16, 4, 1)),
)
"""The kernel of the queries' gradient."""
KEYS = _tables(
    _table((64, 32, 4, 2), (16, 64, 8, 2), (16, 32, 4, 1), (32, 32, 8, 1), (32, 32, 8, 1), (16, 16, 4, 1)),
    _table((64, 128, 8, 2), (32, 64, 8, 2), (16, 32, 4, 1), (32, 32, 8, 1), (32, 32, 8, 1), (16, 16, 4, 1)),
    _table((64, 128, 8, 2), (16, 32, 4, 2), (16, 32, 4, 1), (32, 32, 8, 1), (32, 32, 8, 1), (16, 16, 4, 1)),
    _table((32, 64, 4, 1), (16, 32, 4, 1), (16, 16, 4, 1), (16, 32, 4, 1), (16, 16, 4, 1), (16, 16, 4, 1)),
)
"""The kernel of the keys' and values' gradients."""
DECODE = _tables(
    *[_table((16, 64, 4, 2), (16, 64, 4, 2), (16, 32, 4, 2), (16, 32, 4, 2), (16, 32, 4, 2), (16, 16, 4, 1))] * 4
)
"""The kernel that splits keys; its rows are lines of one row, at least the group."""


def padded(width: int) -> int:
    """Head width as the kernels hold it: a power of two that matrix products take.

    Raises:
        KernelValueError: No configuration holds the width.
    """
    if not 1 <= width <= WIDEST:
        raise KernelValueError(f"interval_attention: expected a head width of 1 to {WIDEST}, got {width}")
    return max(16, triton.next_power_of_2(width))


def choose(table: dict[str, Table], arch: str, dtype: torch.dtype, width: int) -> Config:
    """The configuration of a head width; narrow ones take that of 64."""
    return table[arch][dtype.itemsize, max(64, padded(width))]


ELEMENTS = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


def fixed(dtype: torch.dtype, width: int, cap: float | None) -> dict[str, Any]:
    """What every attention kernel is compiled for, beside its configuration and the numbers of heads.

    Products of float32 follow ``torch.set_float32_matmul_precision``: exact for "highest", else TensorFloat-32.
    """
    operand = tl.float32 if INTERPRETED and dtype == torch.bfloat16 else ELEMENTS[dtype]
    precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    return {"WIDTH": width, "PADDED": padded(width), "CAPPED": cap is not None, "OPERAND": operand,
            "PRECISION": precision}  # fmt: skip
