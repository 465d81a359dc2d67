"""The other kernels on a GPU: the loss over a large vocabulary (G15), and what only moves numbers (G18).

Shapes: n rows, D width, V outputs, H heads, Dh head width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from anyany.bench import gpu
from anyany.bench.measure import Figure, quartiles, rounds_of, speedup

ROWS, WIDTH, OUTPUTS = 8192, 2048, 131_072
HEAD = 128
COPIED = 1 << 32

Losses = tuple[Callable[[], list[Tensor]], Callable[[], list[Tensor]]]


def loss(rounds: int) -> Figure:
    """Loss and gradients against logits in memory; time."""
    ours, theirs = _losses()
    for mine, other in zip(ours(), theirs(), strict=True):
        gpu.same("G15", mine, other)
    quarters = speedup(gpu.timed(ours), gpu.timed(theirs), rounds)
    return Figure(id="G15", what=_what("time"), quartiles=quarters, peer="logits in memory", goal=0.95)


def loss_memory(rounds: int) -> Figure:
    """The same: peak of memory beyond what both begin with."""
    ours, theirs = (_peak(call) for call in _losses())
    return Figure(
        id="G15-memory", what=_what("memory"), quartiles=(theirs / ours,) * 3, peer="logits in memory", goal=4.0
    )


def moved(name: str, rounds: int) -> Figure:
    """Share of the bandwidth of a copy that a kernel reaches: a ``norm`` behind a sum, ``rope``, or a ``gate``."""
    bytes_moved, ours, theirs = _movers()[name]
    gpu.same(f"G18-{name}", ours(), theirs())
    source = torch.empty(COPIED, dtype=torch.uint8, device=gpu.DEVICE)
    target = torch.empty_like(source)
    times = rounds_of((gpu.timed(ours), gpu.timed(lambda: target.copy_(source))), rounds)
    return Figure(
        id=f"G18-{name}",
        what=f"{name}: bytes a second, ({ROWS:,}, {2 * WIDTH:,})",
        quartiles=quartiles([(bytes_moved / spent) / (2 * COPIED / limit) for spent, limit in times]),
        peer="bandwidth of a copy",
        goal=0.8,
    )


LINES: dict[str, Callable[[int], Figure]] = {
    "G15": loss,
    "G15-memory": loss_memory,
    "G18-norm": partial(moved, "norm"),
    "G18-rope": partial(moved, "rope"),
    "G18-gate": partial(moved, "gate"),
}
"""Each takes how many rounds to measure."""


def _losses() -> Losses:
    """Two calls that give a loss and its gradients."""
    gpu.needed()
    from anyany_kernels.linear_cross_entropy import linear_cross_entropy

    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, device=gpu.DEVICE, dtype=gpu.DTYPE, requires_grad=True)
    matrix = (torch.randn(OUTPUTS, WIDTH, device=gpu.DEVICE) / WIDTH**0.5).to(gpu.DTYPE).requires_grad_()
    targets = torch.randint(OUTPUTS, (ROWS,), device=gpu.DEVICE)

    def step(value: Tensor) -> list[Tensor]:
        return [value.detach(), *torch.autograd.grad(value, [hidden, matrix])]

    return (
        lambda: step(linear_cross_entropy(hidden, [matrix], targets)),
        lambda: step(F.cross_entropy((hidden @ matrix.mT).float(), targets, reduction="sum")),
    )


def _movers() -> dict[str, tuple[float, Callable[[], Tensor], Callable[[], Tensor]]]:
    """Bytes that must be read and written, our kernel, and the same by PyTorch."""
    gpu.needed()
    from anyany_kernels import gated, rms_norm, rope

    torch.manual_seed(0)
    x, y = torch.randn(2, ROWS, 2 * WIDTH, device=gpu.DEVICE, dtype=gpu.DTYPE)
    weight, heads = torch.randn(2 * WIDTH, device=gpu.DEVICE, dtype=gpu.DTYPE), x.view(ROWS, -1, HEAD)
    angles = torch.rand(ROWS, 1, HEAD // 2, device=gpu.DEVICE)
    cos, sin = angles.cos(), angles.sin()
    a, b = heads.float().chunk(2, dim=-1)

    def turned() -> Tensor:
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    return {
        "norm": (
            4 * x.nbytes,
            lambda: rms_norm.add_rms_norm(x, y, weight, 1e-6)[0],
            lambda: F.rms_norm((x + y).float(), (2 * WIDTH,), weight.float(), 1e-6),
        ),
        "rope": (2 * x.nbytes, lambda: rope.rope(heads, cos, sin), turned),
        "gate": (
            1.5 * x.nbytes, lambda: gated.swiglu(x), lambda: F.silu(x[:, :WIDTH].float()) * x[:, WIDTH:].float()
        ),
    }  # fmt: skip


def _peak(call: Callable[[], object]) -> int:
    """Bytes on the device at the highest moment of a call, beyond what was there."""
    call()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() - before


def _what(of: str) -> str:
    return f"loss over {OUTPUTS:,} outputs and its gradients, {ROWS:,} rows of {WIDTH:,}: {of}"
