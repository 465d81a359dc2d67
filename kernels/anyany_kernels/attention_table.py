"""Tile sizes of interval attention by kernel, architecture, bytes of an element, and head width.

Nothing is tuned at run time. The sizes are the largest that compile without spills into the shared memory of the
architecture (``python -m anyany_kernels.aot``); none has been timed on a GPU yet.
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


def _table(half64: Config, half128: Config, half256: Config, full64: Config, full128: Config, full256: Config) -> Table:
    return {(2, 64): half64, (2, 128): half128, (2, 256): half256,
            (4, 64): full64, (4, 128): full128, (4, 256): full256}  # fmt: skip


_SMALL = [Config(64, 64, 4, 2), Config(64, 32, 4, 2), Config(32, 32, 4, 1),
          Config(32, 32, 4, 2), Config(32, 32, 4, 1), Config(16, 16, 4, 1)]  # fmt: skip
_INTERPRETER = [Config(32, 32, 4, 1)] * 6

FORWARD: dict[str, Table] = {
    "sm_80": _table(Config(128, 64, 4, 3), Config(128, 64, 8, 2), Config(64, 32, 4, 2),
                    Config(64, 32, 4, 2), Config(64, 32, 4, 2), Config(32, 32, 4, 1)),
    "sm_90": _table(Config(128, 128, 8, 3), Config(128, 64, 8, 3), Config(128, 64, 8, 2),
                    Config(64, 32, 4, 2), Config(64, 32, 4, 2), Config(32, 32, 4, 1)),
    "sm_100": _table(Config(128, 128, 8, 3), Config(128, 64, 8, 3), Config(128, 64, 8, 2),
                     Config(64, 32, 4, 2), Config(64, 32, 4, 2), Config(32, 32, 4, 1)),
    "sm_86": _table(*_SMALL),
    "gfx942": _table(*_SMALL),
    "interpreter": _table(*_INTERPRETER),
}  # fmt: skip
QUERIES: dict[str, Table] = {
    "sm_80": _table(Config(128, 64, 8, 2), Config(64, 64, 8, 2), Config(32, 32, 4, 2),
                    Config(32, 32, 4, 2), Config(32, 32, 4, 2), Config(16, 16, 4, 1)),
    "sm_90": _table(Config(128, 64, 8, 2), Config(128, 64, 8, 2), Config(64, 32, 8, 2),
                    Config(32, 32, 4, 2), Config(32, 32, 4, 2), Config(16, 16, 4, 1)),
    "sm_100": _table(Config(128, 64, 8, 2), Config(128, 64, 8, 2), Config(64, 32, 8, 2),
                     Config(32, 32, 4, 2), Config(32, 32, 4, 2), Config(16, 16, 4, 1)),
    "sm_86": _table(*_SMALL),
    "gfx942": _table(*_SMALL),
    "interpreter": _table(*_INTERPRETER),
}  # fmt: skip
"""The kernel of the queries' gradient."""
KEYS: dict[str, Table] = {
    "sm_80": _table(Config(64, 128, 8, 2), Config(32, 64, 4, 2), Config(32, 32, 4, 1),
                    Config(32, 32, 4, 2), Config(32, 32, 4, 2), Config(16, 16, 4, 1)),
    "sm_90": _table(Config(64, 128, 8, 2), Config(64, 64, 8, 2), Config(32, 32, 4, 2),
                    Config(32, 32, 4, 2), Config(32, 32, 4, 2), Config(16, 16, 4, 1)),
    "sm_100": _table(Config(64, 128, 8, 2), Config(64, 64, 8, 2), Config(32, 32, 4, 2),
                     Config(32, 32, 4, 2), Config(32, 32, 4, 2), Config(16, 16, 4, 1)),
    "sm_86": _table(*_SMALL),
    "gfx942": _table(*_SMALL),
    "interpreter": _table(*_INTERPRETER),
}  # fmt: skip
"""The kernel of the keys' and values' gradients."""
DECODE: dict[str, Table] = {name: _table(
    Config(16, 64, 4, 2), Config(16, 64, 4, 2), Config(16, 32, 4, 2),
    Config(16, 32, 4, 2), Config(16, 32, 4, 2), Config(16, 16, 4, 2),
) for name in FORWARD}  # fmt: skip
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
