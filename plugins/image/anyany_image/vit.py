"""A vision transformer in the shapes of CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343), for weights of others.

Shapes: B pictures, C channels, S pixels a side, P patches a side, R rows (P * P, one more with a class row), W width,
H heads, F hidden width, L layers that are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anyany.parts import Image, Media
from anyany.plugin import Coordinates, Look, Prepared
from anyany_image import pixels
from anyany_image.processing import Processing


def quick_gelu(x: Tensor) -> Tensor:
    """``x * sigmoid(1.702 x)``, as CLIP was trained."""
    return x * torch.sigmoid(1.702 * x)


def tanh_gelu(x: Tensor) -> Tensor:
    """The tanh form of GELU."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS = {"gelu": F.gelu, "gelu_tanh": tanh_gelu, "quick_gelu": quick_gelu}


class Block(nn.Module):
    """Attention of all rows of a picture to each other, then a feed-forward; norms before both."""

    def __init__(self, width: int, *, heads: int, hidden: int, activation: str, eps: float) -> None:
        super().__init__()
        self.heads, self.activation = heads, ACTIVATIONS[activation]
        self.norm, self.ff_norm = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, R, W)`` -> ``(B, R, W)``."""
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, R, W / H)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(self.activation(self.up(self.ff_norm(x))))


class VisionTransformer(nn.Module):
    """One feature row per patch, from the layers that are asked for.

    Args:
        size: S; pictures are brought to it by ``processing``.
        channels: C, 3.
        patch: Pixels a side of a patch; what is left over at the right and bottom is not seen.
        width: W.
        depth: Blocks.
        heads: H.
        hidden: F.
        activation: Of the feed-forward: ``gelu``, ``gelu_tanh`` or ``quick_gelu``.
        eps: Of the norms.
        class_row: A learned row stands before the patches.
        patch_bias: Of the map from patches to rows.
        first_norm: Rows are normalised before the first block.
        layers: Which are read, side by side: 0 is what goes into the first block, n what comes out of the nth, and
            negative numbers count from the end; none: the last, normalised.
        keep_class: The class row is among the features.
        two_way: Rows of a picture see each other both ways in the sequence.
        processing: Options of ``Processing``.
    """

    def __init__(
        self, *, size: int, channels: int, patch: int, width: int, depth: int, heads: int, hidden: int,
        activation: str, eps: float, class_row: bool, patch_bias: bool, first_norm: bool, layers: Sequence[int],
        keep_class: bool, two_way: bool, processing: Mapping[str, Any],
    ) -> None:  # fmt: skip
        super().__init__()
        self.side = size // patch
        self.class_row = nn.Parameter(torch.randn(width) * 0.02) if class_row else None
        self.patches = nn.Conv2d(channels, width, patch, stride=patch, bias=patch_bias)
        self.positions = nn.Embedding(self.side**2 + int(class_row), width)
        self.first_norm = nn.LayerNorm(width, eps=eps) if first_norm else nn.Identity()
        block = {"heads": heads, "hidden": hidden, "activation": activation, "eps": eps}
        self.blocks = nn.ModuleList([Block(width, **block) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=eps)
        self.layers = [layer % (depth + 1) for layer in layers]
        self.look: Look = "full" if two_way else "causal"
        self.dropped = int(class_row and not keep_class)
        self.width = width * max(len(layers), 1)
        self.processing = Processing(size=size, **processing)

    def example(self, seed: int) -> Image:
        """A tiny valid picture."""
        return pixels.example(seed, self.processing.size)

    def prepare(self, media: Media) -> Prepared:
        """Pixels as the weights expect them; rows in reading order, the class row first where it is kept."""
        rows = self.positions.num_embeddings - self.dropped
        plain = rows == self.side**2
        return Prepared(
            arrays={"pixels": self.processing(media)},
            rows=rows,
            coordinates=Coordinates(values=pixels.grid(self.side)) if plain else None,
            look=self.look,
        )

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(B * rows, L * W)``."""
        x = torch.from_numpy(np.stack([p.arrays["pixels"] for p in batch])).to(self.positions.weight)  # (B, C, S, S)
        x = self.patches(x).flatten(2).transpose(1, 2)  # (B, P * P, W)
        if self.class_row is not None:
            x = torch.cat([self.class_row.expand(len(x), 1, -1), x], dim=1)
        x = self.first_norm(x + self.positions.weight)
        if not self.layers:
            return self.norm(self._through(x, len(self.blocks))[-1])[:, self.dropped :].flatten(0, 1)
        states = self._through(x, max(self.layers))
        return torch.cat([states[layer] for layer in self.layers], dim=-1)[:, self.dropped :].flatten(0, 1)

    def _through(self, x: Tensor, depth: int) -> list[Tensor]:
        """What goes into the first block, and what comes out of each up to ``depth``; no other runs."""
        states = [x]
        for block in self.blocks[:depth]:
            states.append(block(states[-1]))
        return states


def build_encoder(**config: Any) -> VisionTransformer:
    """The factory of ``image/vit``."""
    return VisionTransformer(**config)
