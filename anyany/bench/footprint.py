"""Memory of one piece of work, in bytes; run as a program, in a process where nothing else allocates.

``python -m anyany.bench.footprint cache 8 2 64 1024`` prints two numbers: measured, and the yardstick.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch

from anyany.backbone import KVPool, interval_attention

CHUNK = 256


def cache(layers: int, heads: int, width: int, rows: int) -> tuple[int, int]:
    """A pool whose rows have all been written, and ``2 * layers * heads * width * 4 * rows``."""
    _fill(KVPool(layers, heads, width, CHUNK), CHUNK)  # what the first call of anything takes, once
    before = status("VmRSS")
    pool = KVPool(layers, heads, width, rows)
    _fill(pool, rows)
    return status("VmRSS") - before, 2 * layers * heads * width * 4 * rows


def _fill(pool: KVPool, rows: int) -> None:
    run = pool.reserve(rows)
    for start in range(0, rows, CHUNK):
        slots = slice(*pool.append(run, min(CHUNK, rows - start)))
        for layer, keys in enumerate(pool.keys):
            block = torch.ones(slots.stop - slots.start, *keys.shape[1:])
            pool.write(layer, slots, block, block)


def attention(rows: int, heads: int, width: int) -> tuple[int, int]:
    """Peak of causal attention beyond its inputs, and ``rows * rows``: a mask of one byte per pair."""
    _attend(CHUNK, heads, width)
    inputs, intervals = _inputs(rows, heads, width)
    before = status("VmRSS")
    interval_attention(*inputs, intervals)
    return status("VmHWM") - before, rows * rows


def _attend(rows: int, heads: int, width: int) -> None:
    inputs, intervals = _inputs(rows, heads, width)
    interval_attention(*inputs, intervals)


def _inputs(rows: int, heads: int, width: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    intervals = torch.zeros(rows, 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = torch.arange(1, rows + 1)
    return [torch.randn(rows, heads, width, generator=draw) for _ in range(3)], intervals


def status(field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (peak) of this process, in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)[0]) * 1024


if __name__ == "__main__":
    work = {"cache": cache, "attention": attention}[sys.argv[1]]
    print(*work(*map(int, sys.argv[2:])))
