"""Memory: what the cache takes, and what attention over a long sequence takes beside its inputs."""

from __future__ import annotations

import subprocess
import sys

from anyany.bench.measure import Figure, quartiles
from anyany.errors import AnyanyError

LAYERS, KV_HEADS, HEAD_DIM, POOL_ROWS = 8, 2, 64, 32768
ROWS, HEADS, WIDTH = 32768, 1, 32


def cache(rounds: int) -> Figure:
    """Bytes of a pool by the formula, over bytes that the process grew by."""
    shares = [wanted / taken for taken, wanted in _footprints(rounds, "cache", LAYERS, KV_HEADS, HEAD_DIM, POOL_ROWS)]
    return Figure(
        id="cache-memory",
        what=f"bytes of a cache of {POOL_ROWS:,} rows, all written; 1 is not a byte too many",
        quartiles=quartiles(shares),
        peer="2 * layers * kv_heads * head_dim * 4 * rows",
        goal=0.95,
    )


def attention(rounds: int) -> Figure:
    """How many times less than one byte per pair of rows attention takes."""
    shares = [pairs / taken for taken, pairs in _footprints(rounds, "attention", ROWS, HEADS, WIDTH)]
    return Figure(
        id="attention-memory",
        what=f"peak extra memory of causal attention over {ROWS:,} rows",
        quartiles=quartiles(shares),
        peer=f"a mask of {ROWS:,} x {ROWS:,} bytes",
        goal=10.0,
    )


def _footprints(rounds: int, *words: str | int) -> list[tuple[int, int]]:
    """Measured bytes and yardstick, ``rounds`` times."""
    return [_pair(program("footprint", *words)) for _ in range(rounds)]


def program(name: str, *words: str | int) -> str:
    """What a module of this package prints when it is run as a program, in a process of its own.

    Raises:
        AnyanyError: The system does not tell how much memory a process has.
    """
    if sys.platform != "linux":
        raise AnyanyError(f"bench: the memory of a process is read from /proc, which {sys.platform} has not")
    command = [sys.executable, "-m", f"anyany.bench.{name}", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _pair(text: str) -> tuple[int, int]:
    measured, yardstick = map(int, text.split())
    return measured, yardstick
