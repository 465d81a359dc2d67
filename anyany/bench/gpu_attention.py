"""Interval attention on a GPU against what PyTorch has there, and against the rate of matrix products.

Lines are named as in the goals that they are held to: G1 and G2 are plain causal attention, G3 and G4 documents with
spans that look both ways, G11 says whether a new layout compiles anything.

Shapes: T rows, H heads, Dh head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from anyany.bench import gpu
from anyany.bench.measure import Figure, Quartiles, quartiles, rounds_of, speedup

ROWS, HEADS, WIDTH = 8192, 16, 128
DOCUMENT, SPAN = 2048, 512
"""Four documents; in each, two spans look both ways. A row sees one key in seven."""
SIDE = 8192
LAYOUTS = 30

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def causal(rounds: int, *, learns: bool) -> Figure:
    """Plain causal attention against cuDNN's, alone or with its gradients."""
    gpu.needed()
    name = "G1-both" if learns else "G1"
    ours = partial(_ours, intervals=_plain())
    theirs = partial(_sdpa, backend=SDPBackend.CUDNN_ATTENTION, is_causal=True)
    quarters = _compare(name, ours, theirs, rounds, learns=learns)
    return _figure(name, "plain causal" + ", forward and backward" * learns, quarters, "SDPA by cuDNN", 0.7)


def share(rounds: int) -> Figure:
    """Share of the rate of a large matrix product that plain causal attention reaches, forward."""
    gpu.needed()
    inputs, intervals = _inputs(learns=False), _plain()
    a, b = torch.randn(2, SIDE, SIDE, device=gpu.DEVICE, dtype=gpu.DTYPE)
    work, most = 4 * HEADS * WIDTH * (ROWS * (ROWS + 1) // 2), 2 * SIDE**3
    times = rounds_of((gpu.timed(lambda: _ours(*inputs, intervals=intervals)), gpu.timed(lambda: a @ b)), rounds)
    shares = quartiles([(work / spent) / (most / limit) for spent, limit in times])
    return _figure("G2", "plain causal: operations a second", shares, "rate of a matrix product", 0.48)


def flex(rounds: int) -> Figure:
    """Documents with spans against compiled FlexAttention; both make what they need of the mask in each call."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    gpu.needed()
    low, high = _spans()
    compiled = torch.compile(flex_attention, dynamic=False)

    def seen(_: Tensor, __: Tensor, row: Tensor, key: Tensor) -> Tensor:
        return (key >= low[row]) & (key < high[row])

    def theirs(*inputs: Tensor) -> Tensor:
        mask = create_block_mask(seen, None, None, ROWS, ROWS, device=gpu.DEVICE)
        return compiled(*_batched(inputs), block_mask=mask)[0].transpose(0, 1)

    def ours(*inputs: Tensor) -> Tensor:
        return _ours(*inputs, intervals=_intervals(low, high))

    quarters = _compare("G3", ours, theirs, rounds, learns=False)
    return _figure("G3", "documents with spans, the mask made", quarters, "FlexAttention, compiled", 1.2)


def dense(rounds: int) -> Figure:
    """Documents with spans against memory-efficient attention with a dense mask."""
    gpu.needed()
    low, high = _spans()
    keys = torch.arange(ROWS, device=gpu.DEVICE)
    mask = (keys >= low[:, None]) & (keys < high[:, None])
    theirs = partial(_sdpa, backend=SDPBackend.EFFICIENT_ATTENTION, attn_mask=mask)
    quarters = _compare("G4", partial(_ours, intervals=_intervals(low, high)), theirs, rounds, learns=False)
    return _figure("G4", "documents with spans", quarters, "SDPA with a dense mask", 4.0)


def layouts(rounds: int) -> Figure:
    """One over one and the kernels that are compiled for new lengths and layouts, behind the first."""
    import triton

    gpu.needed()
    draw, new = torch.Generator().manual_seed(0), [0]

    def count(**_: Any) -> None:
        new[0] += 1

    def one() -> None:
        length = int(torch.randint(ROWS // 8, ROWS // 2, (), generator=draw))
        rows = torch.arange(length, dtype=torch.int32, device=gpu.DEVICE)
        document = int(torch.randint(1, length + 1, (), generator=draw))
        q, k, v = torch.randn(3, length, HEADS, WIDTH, device=gpu.DEVICE, dtype=gpu.DTYPE)
        _ours(q, k, v, intervals=_intervals(rows // document * document, rows + 1))

    one()
    before, triton.knobs.runtime.jit_post_compile_hook = triton.knobs.runtime.jit_post_compile_hook, count
    try:
        for _ in range(LAYOUTS):
            one()
    finally:
        triton.knobs.runtime.jit_post_compile_hook = before
    held = 1 / (1 + new[0])
    return _figure("G11", f"{LAYOUTS} new lengths and layouts: 1 / (1 + kernels compiled)", (held,) * 3, "none", 1.0)


LINES: dict[str, Callable[[int], Figure]] = {
    "G1": partial(causal, learns=False),
    "G1-both": partial(causal, learns=True),
    "G2": share,
    "G3": flex,
    "G4": dense,
    "G11": layouts,
}
"""Each takes how many rounds to measure."""


def _plain() -> Tensor:
    rows = torch.arange(ROWS, dtype=torch.int32, device=gpu.DEVICE)
    return _intervals(torch.zeros_like(rows), rows + 1)


def _spans() -> tuple[Tensor, Tensor]:
    """First key and end of the keys of each row ``(T,)``: causal documents, but for the rows of spans."""
    rows = torch.arange(ROWS, dtype=torch.int32, device=gpu.DEVICE)
    start, within = rows // DOCUMENT * DOCUMENT, rows % DOCUMENT
    end = rows + 1
    for first in (DOCUMENT // 8, DOCUMENT // 2):
        end = torch.where((within >= first) & (within < first + SPAN), start + first + SPAN, end)
    return start, end


def _intervals(low: Tensor, high: Tensor) -> Tensor:
    """``(T,)`` each -> ``(T, 2, 2)`` without a prefix."""
    own = torch.stack([low, high], 1)
    return torch.stack([torch.zeros_like(own), own], 1)


def _inputs(*, learns: bool) -> list[Tensor]:
    torch.manual_seed(0)
    shape = (ROWS, HEADS, WIDTH)
    return [torch.randn(shape, device=gpu.DEVICE, dtype=gpu.DTYPE).requires_grad_(learns) for _ in range(3)]


def _ours(q: Tensor, k: Tensor, v: Tensor, *, intervals: Tensor) -> Tensor:
    from anyany_kernels.interval_attention import interval_attention

    return interval_attention(q, k, v, intervals)


def _batched(inputs: Sequence[Tensor]) -> list[Tensor]:
    """``(T, H, Dh)`` -> ``(1, H, T, Dh)``."""
    return [x.transpose(0, 1)[None] for x in inputs]


def _sdpa(q: Tensor, k: Tensor, v: Tensor, *, backend: SDPBackend, **options: Any) -> Tensor:
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(*_batched((q, k, v)), **options)[0].transpose(0, 1)


def _compare(name: str, ours: Attend, theirs: Attend, rounds: int, *, learns: bool) -> Quartiles:
    """Ratio of their time to ours, once both give the same."""
    inputs = _inputs(learns=learns)
    told = torch.randn(ROWS, HEADS, WIDTH, device=gpu.DEVICE, dtype=gpu.DTYPE)

    def made(attend: Attend) -> Callable[[], Sequence[Tensor]]:
        if learns:
            return lambda: torch.autograd.grad(attend(*inputs), inputs, told)
        return lambda: [attend(*inputs)]

    for mine, other in zip(made(ours)(), made(theirs)(), strict=True):
        gpu.same(name, mine, other)
    return speedup(gpu.timed(made(ours)), gpu.timed(made(theirs)), rounds)


def _figure(name: str, what: str, quarters: Quartiles, peer: str, goal: float) -> Figure:
    shape = f"{ROWS:,} rows, {HEADS} heads of {WIDTH}, {str(gpu.DTYPE).removeprefix('torch.')}"
    return Figure(id=name, what=f"{what}: {shape}", quartiles=quarters, peer=peer, goal=goal)
