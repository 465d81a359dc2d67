"""The backbone: a stack of blocks over packed rows. It knows rows, coordinates and intervals, no media.

Shapes: T rows, D model width, S keys in the cache pool.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anyany.backbone.blocks import Attention, Block
from anyany.backbone.cache import KVPool
from anyany.backbone.cpu_attention import Tiles
from anyany.backbone.few_rows import few_rows, is_few, norm
from anyany.backbone.native import native_rows
from anyany.backbone.ops import plan_attention
from anyany.backbone.positions import LearnedPositions, Rotary
from anyany.native import Form
from anyany.sequence import PositionScheme, window


class Backbone(nn.Module):
    """Blocks and a final norm.

    With ``recompute`` set, training keeps the input of each block alone and runs the block again for its gradient
    (Chen et al. 2016, arXiv 1604.06174): the same gradients, less memory, more time. With ``weights`` set, passes of a
    few rows read copies of the matrices in small integers; everything else reads the matrices themselves.

    Args:
        blocks: In order.
        norm: After the last block.
        width: D.
        scheme: How declared coordinates become positions.
        rotary: Turns queries and keys, or ``None``.
        local_rotary: Turns those of layers whose mixer says ``local``, where they have frequencies of their own.
        learned: Adds positions to the rows, or ``None``.
        config: What the builder was given; stored in checkpoints.
    """

    def __init__(
        self, blocks: Sequence[Block], norm: nn.Module, *, width: int, scheme: PositionScheme,
        rotary: Rotary | None = None, local_rotary: Rotary | None = None, learned: LearnedPositions | None = None,
        config: object = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.rotary, self.learned = norm, rotary, learned
        self.local_rotary = local_rotary
        self.width, self.scheme, self.config = width, scheme, config
        self.recompute = False
        self.weights: Form | None = None

    def forward(
        self, x: Tensor, coordinates: Tensor, intervals: Tensor, *, cache: KVPool | None = None,
        slots: slice | Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Rows ``(T, D)`` -> hidden states ``(T, D)``.

        Args:
            x: Embeddings.
            coordinates: ``(T, 3)``.
            intervals: ``(T, 2, 2)`` int32, indices into the rows, or into the pool with ``cache``.
            cache: Pool that holds the keys and values of earlier rows.
            slots: Pool rows that these rows take, ``(T,)``.
        """
        if self.learned is not None:
            x = self.learned(x, coordinates)
        if cache is not None and slots is not None:
            if (made := native_rows(self, x, coordinates, intervals, cache, slots)) is not None:
                return made
            if is_few(x):
                return norm(self.norm, few_rows(self, x, coordinates, intervals, cache, slots))
        turns = self.turns(coordinates)
        plans: dict[int | None, tuple[Tensor, Tiles | None]] = {}
        for layer, block in enumerate(self.blocks):
            reach = block.mixer.window
            if reach not in plans:
                seen = intervals if reach is None else window(intervals, reach, slots)
                plans[reach] = seen, plan_attention(seen)
            seen, plan = plans[reach]
            given = (x, turns.get(block.mixer.rotary), seen, plan, cache, slots, layer)
            if self.recompute and torch.is_grad_enabled():  # blocks draw nothing, so that no random state is kept
                x = checkpoint(block, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(*given)
        return self.norm(x)

    def turns(self, coordinates: Tensor) -> dict[str | None, tuple[Tensor, Tensor]]:
        """Cosine and sine of each rotary embedding at ``coordinates (T, 3)``, by what a mixer calls it."""
        both = {None: self.rotary, "local": self.local_rotary}
        return {word: rotary(coordinates) for word, rotary in both.items() if rotary is not None}

    def new_pool(
        self,
        rows: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        debug: bool = False,
    ) -> KVPool:
        """A cache of ``rows`` rows for this stack."""
        mixer: Attention = self.blocks[0].mixer
        return KVPool(len(self.blocks), mixer.kv_heads, mixer.head_dim, rows, device=device, dtype=dtype, debug=debug)
