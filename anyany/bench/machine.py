"""What the machine can do at most: reading memory, multiplying matrices."""

from __future__ import annotations

from collections.abc import Callable

import torch

from anyany.bench.measure import Figure, quartiles, rounds_of

READ = 1 << 28
SIDE = 2048


def read() -> tuple[float, Callable[[], object]]:
    """Gigabytes, and a call that reads them once: a sum over more than any cache holds."""
    numbers = torch.ones(READ // 4)
    return READ / 1e9, numbers.sum


def bandwidth(rounds: int) -> Figure:
    """Read bandwidth of memory."""
    gigabytes, call = read()
    return Figure(
        id="machine-bandwidth",
        what=f"a sum over {READ >> 20} MB, {torch.get_num_threads()} threads",
        quartiles=quartiles([gigabytes / spent for (spent,) in rounds_of((call,), rounds)]),
        peer="none",
        unit="GB/s",
    )


def product() -> tuple[float, Callable[[], object]]:
    """Gigaflops, and a call that does them: a square matrix product in float32."""
    a, b = torch.randn(2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return 2 * SIDE**3 / 1e9, lambda: a @ b


def matmul(rounds: int) -> Figure:
    """Rate of a square matrix product."""
    work, call = product()
    return Figure(
        id="machine-matmul",
        what=f"float32 product of two {SIDE} x {SIDE} matrices, {torch.get_num_threads()} threads",
        quartiles=quartiles([work / spent for (spent,) in rounds_of((call,), rounds)]),
        peer="none",
        unit="GFLOP/s",
    )
