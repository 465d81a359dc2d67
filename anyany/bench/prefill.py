"""Prefill: a long prompt through the backbone and the output matrix, into a cache."""

from __future__ import annotations

from collections.abc import Callable

import torch

from anyany.bench import machine
from anyany.bench.measure import Figure, quartiles, rounds_of, speedup
from anyany.bench.twins import Twins, prompt, twins
from anyany.errors import AnyanyError

ROWS = 1024
TOLERANCE = 1e-3


def prefill(size: str, rounds: int) -> Figure:
    """A forward pass over 1,024 rows with a fresh cache, logits of the last row.

    Raises:
        AnyanyError: The logits differ.
    """
    pair = twins(size)
    ours, theirs = _passes(pair)
    apart = float((ours() - theirs()).abs().max())
    if not apart < TOLERANCE:
        raise AnyanyError(f"prefill-{size}: the logits are {apart:.2g} apart, so that speed says nothing")
    return Figure(
        id=f"prefill-{size}",
        what=f"a prompt of {ROWS:,} rows, {pair.parameters / 1e6:.1f} M parameters, float32",
        quartiles=speedup(ours, theirs, rounds),
        peer="transformers forward",
        goal=1.0,
    )


def share(size: str, rounds: int) -> Figure:
    """Share of the rate of a large matrix product that our pass reaches; attention counts the keys that rows see."""
    pair = twins(size)
    work, (gigaflop, product) = _work(pair), machine.product()
    times = rounds_of((_passes(pair)[0], product), rounds)
    return Figure(
        id=f"prefill-share-{size}",
        what=f"a prompt of {ROWS:,} rows, {pair.parameters / 1e6:.1f} M parameters, float32: its operations a second",
        quartiles=quartiles([(work / spent) / (gigaflop / limit) for spent, limit in times]),
        peer="measured rate of a matrix product",
        goal=0.8,
    )


def _work(pair: Twins) -> float:
    """Gigaflops of a pass: two for each weight and row, but for the embedding, and for logits in one row."""
    config, text = pair.ours.backbone.config, pair.ours.text
    blocks = pair.parameters - text.embedding.weight.numel() - config.width * text.vocab
    scores = 4 * config.layers * config.width * ROWS * (ROWS + 1) // 2
    return (2 * blocks * ROWS + 2 * config.width * text.vocab + scores) / 1e9


def _passes(pair: Twins) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]:
    """Ours and theirs, to logits of the last row ``(1, V)``."""
    ids, heights = prompt(ROWS), torch.arange(ROWS)
    coordinates = heights.float()[:, None].expand(-1, 3).contiguous()
    intervals = torch.zeros(ROWS, 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = heights + 1

    @torch.inference_mode()
    def ours() -> torch.Tensor:
        model = pair.ours
        pool = model.backbone.new_pool(ROWS)
        slots = slice(*pool.append(pool.reserve(ROWS), ROWS))
        hidden = model.backbone(model.text.embed(ids), coordinates, intervals, cache=pool, slots=slots)
        return model.text.logits(hidden[-1:])

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        return pair.theirs(ids[None], use_cache=True, logits_to_keep=1).logits[0]

    return ours, theirs
