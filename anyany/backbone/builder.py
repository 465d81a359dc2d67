"""A backbone from numbers."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import nn

from anyany.backbone.blocks import GELUMLP, Attention, Block, SwiGLU
from anyany.backbone.decoder import Backbone
from anyany.backbone.norms import RMSNorm
from anyany.backbone.positions import LearnedPositions, Rotary
from anyany.errors import CheckpointError
from anyany.sequence import PositionScheme


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Numbers of a decoder-only stack.

    Attributes:
        width: D.
        layers: Blocks.
        heads: Query heads.
        kv_heads: Key heads; 0 is one per query head.
        head_dim: Width of a head; 0 is ``width / heads``.
        hidden: Hidden width of the feed-forward; 0 is 8/3 of the width, rounded up to 32.
        norm: ``rms`` or ``layer``.
        norm_eps: Of the norms.
        ff: ``swiglu`` or ``gelu``.
        qkv_bias: Biases of queries, keys and values; likewise ``out_bias`` and ``ff_bias``.
        qk_norm: Normalise queries and keys per head.
        positions: ``rope``, ``learned`` or ``none``.
        theta: Base of the rotary frequencies.
        sections: Frequencies per axis, for positions on three axes.
        frequencies: Ready-made rotary frequencies, for scaled variants.
        max_positions: Of learned positions.
        window: Sliding window of each layer, 0 for none; one number stands for all.
        scheme: How spans declare positions: ``index``, ``span``, ``grid`` or ``time``.
        per_second: Positions in a second.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int = 0
    head_dim: int = 0
    hidden: int = 0
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-6
    ff: Literal["swiglu", "gelu"] = "swiglu"
    qkv_bias: bool = False
    out_bias: bool = False
    ff_bias: bool = False
    qk_norm: bool = False
    positions: Literal["rope", "learned", "none"] = "rope"
    theta: float = 10000.0
    sections: tuple[int, ...] = ()
    frequencies: tuple[float, ...] = ()
    max_positions: int = 2048
    window: int | tuple[int, ...] = 0
    scheme: Literal["index", "span", "grid", "time"] = "index"
    per_second: float = 25.0

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BackboneConfig:
        """Strict: an unknown key is an error that suggests the right one."""
        known = {f.name for f in fields(cls)}
        for key in data:
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                raise CheckpointError(
                    f"backbone: unknown key {key!r}" + (f"; did you mean {close[0]!r}?" if close else "")
                )
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)


def build(config: BackboneConfig) -> Backbone:
    """A backbone with fresh weights.

    Raises:
        CheckpointError: Numbers contradict each other.
        LayoutError: The rotary positions do not fit the head width.
    """
    if config.heads % (config.kv_heads or config.heads):
        raise CheckpointError(f"backbone: {config.heads} query heads cannot share {config.kv_heads} key heads evenly")
    head_dim = config.head_dim or config.width // config.heads
    windows = config.window if isinstance(config.window, tuple) else (config.window,) * config.layers
    if len(windows) != config.layers:
        raise CheckpointError(f"backbone: {config.layers} layers, but {len(windows)} windows")
    rotary = None
    if config.positions == "rope":
        ready = torch.tensor(config.frequencies, device="cpu") if config.frequencies else None
        rotary = Rotary(head_dim, theta=config.theta, sections=config.sections or None, frequencies=ready)
    learned = LearnedPositions(config.max_positions, config.width) if config.positions == "learned" else None
    backbone = Backbone(
        [_block(config, head_dim, window or None) for window in windows],
        _norm(config, config.width),
        width=config.width,
        scheme=PositionScheme(config.scheme, config.per_second),
        rotary=rotary,
        learned=learned,
        config=config,
    )
    _initialise(backbone, config.layers)
    return backbone


def _block(config: BackboneConfig, head_dim: int, window: int | None) -> Block:
    hidden = config.hidden or math.ceil(config.width * 8 / 3 / 32) * 32
    mixer = Attention(
        config.width, heads=config.heads, kv_heads=config.kv_heads or config.heads, head_dim=head_dim,
        bias=config.qkv_bias, out_bias=config.out_bias, window=window,
        query_norm=_norm(config, head_dim) if config.qk_norm else None,
        key_norm=_norm(config, head_dim) if config.qk_norm else None,
    )  # fmt: skip
    kind = SwiGLU if config.ff == "swiglu" else GELUMLP
    ff = kind(config.width, hidden, bias=config.ff_bias)
    return Block(mixer_norm=_norm(config, config.width), mixer=mixer, ff_norm=_norm(config, config.width), ff=ff)


def _norm(config: BackboneConfig, width: int) -> nn.Module:
    kind = RMSNorm if config.norm == "rms" else nn.LayerNorm
    return kind(width, eps=config.norm_eps)


def _initialise(backbone: Backbone, layers: int) -> None:
    """Normal 0.02; projections into the residual stream are scaled by depth (GPT-2)."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            residual = name.endswith(("mixer.out", "ff.down"))
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
