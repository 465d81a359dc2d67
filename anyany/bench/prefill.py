"""Prefill: a long prompt through the backbone and the output matrix, into a cache."""

from __future__ import annotations

import torch

from anyany.bench.measure import Figure, speedup
from anyany.bench.twins import prompt, twins
from anyany.errors import AnyanyError

ROWS = 1024
TOLERANCE = 1e-3


def prefill(size: str, rounds: int) -> Figure:
    """A forward pass over 1,024 rows with a fresh cache, logits of the last row.

    Raises:
        AnyanyError: The logits differ.
    """
    pair, ids = twins(size), prompt(ROWS)
    model, heights = pair.ours, torch.arange(ROWS)
    coordinates = heights.float()[:, None].expand(-1, 3).contiguous()
    intervals = torch.zeros(ROWS, 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = heights + 1

    @torch.inference_mode()
    def ours() -> torch.Tensor:
        pool = model.backbone.new_pool(ROWS)
        slots = slice(*pool.append(pool.reserve(ROWS), ROWS))
        hidden = model.backbone(model.text.embed(ids), coordinates, intervals, cache=pool, slots=slots)
        return model.text.logits(hidden[-1:])

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        return pair.theirs(ids[None], use_cache=True, logits_to_keep=1).logits[0]

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
