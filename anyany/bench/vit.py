"""A model that sees through an encoder of the shape of ViT-B/16 (arXiv 2010.11929), weights random: a load to measure.

Shapes: B pictures, P patches, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from anyany.backbone import BackboneConfig
from anyany.model import Model, TextTokenizer, compose
from anyany.parts import Media
from anyany.plugin import EncoderSpec, ModalitySpec, Prepared, hookimpl
from anyany.plugin.registry import Registry

ANYANY_API = 1
SIDE, PATCH, WIDTH, DEPTH, HEADS = 224, 16, 768, 12, 12
ROWS = (SIDE // PATCH) ** 2
BACKBONES = {
    "mini": {"width": 192, "layers": 6, "heads": 6, "kv_heads": 2, "hidden": 512},
    "10m": {"width": 256, "layers": 8, "heads": 4, "kv_heads": 2, "hidden": 704},
}
"""By size: that of the model that ships, and that of the other benchmarks."""


@dataclass(frozen=True, eq=False)
class Picture(Media):
    """Values ``(3, 224, 224)``."""

    modality: ClassVar[str] = "picture"
    values: np.ndarray

    @classmethod
    def random(cls, seed: int) -> Picture:
        """Noise: what stands in a picture does not change how long it takes."""
        return cls(np.random.default_rng(seed).standard_normal((3, SIDE, SIDE), np.float32))


class ViT(nn.Module):
    """One feature row per patch; there is no row for the class."""

    width = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.position = nn.Parameter(torch.randn(ROWS, WIDTH) * 0.02)
        block = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, DEPTH, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def example(self, seed: int) -> Picture:
        """A valid picture."""
        return Picture.random(seed)

    def prepare(self, media: Media) -> Prepared:
        """The values as they are."""
        return Prepared(arrays={"values": media.values}, rows=ROWS)  # type: ignore[attr-defined]

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(B * P, W)``."""
        x = torch.from_numpy(np.stack([item.arrays["values"] for item in batch]))  # (B, 3, 224, 224)
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position  # (B, P, W)
        return self.blocks(x).flatten(0, 1)


class Plugin:
    """The manifest."""

    ANYANY_API = ANYANY_API

    @hookimpl
    def anyany_modalities(self) -> Iterator[ModalitySpec]:
        """Pictures."""
        yield ModalitySpec(name="picture", media="anyany.bench.vit:Picture", axes=("channel", "height", "width"))

    @hookimpl
    def anyany_encoders(self) -> Iterator[EncoderSpec]:
        """The encoder."""
        yield EncoderSpec(id="bench/vit", modality="picture", factory="anyany.bench.vit:ViT")


def model(size: str) -> Model:
    """The encoder before a backbone; equal weights at every call.

    Args:
        size: A key of ``BACKBONES``.
    """
    plugins = Registry.isolated()
    plugins.register(Plugin(), "bench")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return compose(
            backbone=BackboneConfig(**BACKBONES[size]), encoders=["bench/vit"], plugins=plugins,
            tokenizer=TextTokenizer.train(["a picture of something"], 300),
        )  # fmt: skip
