"""Attention over intervals against what PyTorch has for such masks: packed documents with spans that look both ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from anyany.backbone.ops import interval_attention, plan_attention
from anyany.bench.measure import Figure, quartiles, rounds_of, speedup
from anyany.errors import AnyanyError

ROWS, HEADS, WIDTH = 4096, 8, 64
DOCUMENT, SPAN = 1024, 256
"""Four documents; in each, two spans look both ways. A row sees one key in seven."""
METADATA = 0.3e-3
TOLERANCE = 1e-4


def forward(rounds: int) -> Figure:
    """Attention alone, without gradients."""
    q, k, v = _inputs(learns=False)
    ours, theirs = (torch.no_grad()(call) for call in (lambda: _ours(q, k, v), lambda: _dense(q, k, v)))
    _same("attention-forward", ours(), theirs())
    return _figure("attention-forward", "forward", speedup(ours, theirs, rounds), "SDPA with a dense mask", 5.0)


def both(rounds: int) -> Figure:
    """Attention and its gradients."""
    inputs = _inputs(learns=True)
    ours, theirs = _step(_ours, inputs), _step(_dense, inputs)
    for mine, other in zip(ours(), theirs(), strict=True):
        _same("attention-both", mine, other)
    quarters = speedup(ours, theirs, rounds)
    return _figure("attention-both", "forward and backward", quarters, "SDPA with a dense mask", 4.5)


def flex(rounds: int) -> Figure:
    """Attention alone, against FlexAttention, compiled; both make what they need of the mask in each call."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v = _inputs(learns=False)
    own = intervals()[:, 1]
    compiled = torch.compile(flex_attention, dynamic=False)

    def seen(_: Tensor, __: Tensor, row: Tensor, key: Tensor) -> Tensor:
        return (key >= own[row, 0]) & (key < own[row, 1])

    @torch.no_grad()
    def theirs() -> Tensor:
        mask = create_block_mask(seen, None, None, ROWS, ROWS, device="cpu")
        return compiled(*(x.transpose(0, 1)[None] for x in (q, k, v)), block_mask=mask)[0].transpose(0, 1)

    ours = torch.no_grad()(lambda: _ours(q, k, v))
    _same("attention-flex", ours(), theirs())
    quarters = speedup(ours, theirs, rounds)
    return _figure("attention-flex", "forward, the mask made", quarters, "FlexAttention, compiled", 2.5)


def plan(rounds: int) -> Figure:
    """What is made of the intervals once per pass, for all layers."""
    rows = intervals()
    times = rounds_of((lambda: plan_attention(rows),), rounds)
    return _figure("attention-plan", "tiles", quartiles([METADATA / spent for (spent,) in times]), "0.3 ms", 1.0)


@cache
def intervals() -> Tensor:
    """``(T, 2, 2)``: causal text, but for the rows of spans, which see theirs to its end."""
    rows = torch.arange(ROWS, dtype=torch.int32)
    start, within = rows // DOCUMENT * DOCUMENT, rows % DOCUMENT
    end = rows + 1
    for first in (DOCUMENT // 8, DOCUMENT // 2):
        end = torch.where((within >= first) & (within < first + SPAN), start + first + SPAN, end)
    own = torch.stack([start, end], 1)
    return torch.stack([torch.zeros_like(own), own], 1)


def _inputs(*, learns: bool) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(ROWS, HEADS, WIDTH, requires_grad=learns) for _ in range(3)]


def _ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    rows = intervals()
    return interval_attention(q, k, v, rows, plan=plan_attention(rows))


@cache
def _mask() -> Tensor:
    keys, own = torch.arange(ROWS), intervals()[:, 1]
    return (keys >= own[:, :1]) & (keys < own[:, 1:])


def _dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = [x.transpose(0, 1)[None] for x in (q, k, v)]
    return F.scaled_dot_product_attention(*heads, attn_mask=_mask())[0].transpose(0, 1)


def _step(attend: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    torch.manual_seed(1)
    told = torch.randn(ROWS, HEADS, WIDTH)
    return lambda: torch.autograd.grad(attend(*inputs), inputs, told)


def _same(name: str, ours: Tensor, theirs: Tensor) -> None:
    apart = float((ours - theirs).abs().max())
    if not apart < TOLERANCE:
        raise AnyanyError(f"{name}: results are {apart:.2g} apart, so that speed says nothing")


def _figure(name: str, what: str, quarters: tuple[float, float, float], peer: str, goal: float) -> Figure:
    shape = f"{ROWS:,} rows, {HEADS} heads of {WIDTH}, four documents with two spans each, float32"
    return Figure(id=name, what=f"{what}: {shape}", quartiles=quarters, peer=peer, goal=goal)
