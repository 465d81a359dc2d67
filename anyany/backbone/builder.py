"""A backbone from numbers."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import nn

from anyany.backbone.blocks import GELUMLP, Attention, Block, GeGLU, SwiGLU
from anyany.backbone.decoder import Backbone
from anyany.backbone.experts import Experts
from anyany.backbone.norms import PlusOneRMSNorm, RMSNorm, WholeRMSNorm
from anyany.backbone.positions import LearnedPositions, Rotary
from anyany.errors import CheckpointError
from anyany.sequence import PositionScheme

NORMS: dict[str, type[nn.Module]] = {"rms": RMSNorm, "rms_plus_one": PlusOneRMSNorm, "layer": nn.LayerNorm}
FEED_FORWARDS: dict[str, type[nn.Module]] = {"swiglu": SwiGLU, "geglu": GeGLU, "gelu": GELUMLP}


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
        norm: ``rms``, ``rms_plus_one`` (the weight is what is added to 1) or ``layer``.
        norm_eps: Of the norms.
        norms: Where a block normalises: ``pre``, what goes into mixer and feed-forward; ``post``, what comes out of
            them, before it is added; or ``both``.
        ff: ``swiglu``, ``geglu`` or ``gelu``.
        qkv_bias: Biases of queries, keys and values; likewise ``out_bias`` and ``ff_bias``.
        qk_norm: Normalise queries and keys per head, or ``whole``: over all heads of a row at once.
        score_scale: Of the attention scores of each layer, 0 for ``1 / sqrt(head_dim)``; one number stands for all.
        score_cap: Attention scores s become ``cap * tanh(s / cap)``; 0 leaves them.
        positions: ``rope``, ``learned`` or ``none``.
        theta: Base of the rotary frequencies.
        local_theta: The same for layers with a window, where it is another; 0: it is not.
        sections: Frequencies per axis, for positions on three axes.
        frequencies: Ready-made rotary frequencies, for scaled variants.
        rotary_dim: Numbers of a head that are turned; 0 is all.
        rotary_scale: Lengthens what is turned.
        rotary_limit: Positions that may be turned; 0 is any.
        unturned_layers: Numbers of layers without rotary positions.
        max_positions: Of learned positions.
        window: Sliding window of each layer, 0 for none; one number stands for all.
        experts: How many a feed-forward has; 0: it is one.
        experts_chosen: How many of them a row takes.
        experts_hidden: Hidden width of an expert.
        experts_renormalise: Shares of the chosen experts add up to 1.
        dense_layers: Numbers of layers without experts.
        scheme: How spans declare positions: ``index``, ``span``, ``grid`` or ``time``.
        per_second: Positions in a second.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int = 0
    head_dim: int = 0
    hidden: int = 0
    norm: Literal["rms", "rms_plus_one", "layer"] = "rms"
    norm_eps: float = 1e-6
    norms: Literal["pre", "post", "both"] = "pre"
    ff: Literal["swiglu", "geglu", "gelu"] = "swiglu"
    qkv_bias: bool = False
    out_bias: bool = False
    ff_bias: bool = False
    qk_norm: bool | Literal["whole"] = False
    score_scale: float | tuple[float, ...] = 0.0
    score_cap: float = 0.0
    positions: Literal["rope", "learned", "none"] = "rope"
    theta: float = 10000.0
    local_theta: float = 0.0
    sections: tuple[int, ...] = ()
    frequencies: tuple[float, ...] = ()
    rotary_dim: int = 0
    rotary_scale: float = 1.0
    rotary_limit: int = 0
    unturned_layers: tuple[int, ...] = ()
    max_positions: int = 2048
    window: int | tuple[int, ...] = 0
    experts: int = 0
    experts_chosen: int = 0
    experts_hidden: int = 0
    experts_renormalise: bool = True
    dense_layers: tuple[int, ...] = ()
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
    _check(config)
    learned = LearnedPositions(config.max_positions, config.width) if config.positions == "learned" else None
    backbone = Backbone(
        [_block(config, layer) for layer in range(config.layers)],
        _norm(config, config.width),
        width=config.width,
        scheme=PositionScheme(config.scheme, config.per_second),
        rotary=_rotary(config),
        local_rotary=_local_rotary(config),
        learned=learned,
        config=config,
    )
    _initialise(backbone, config.layers)
    return backbone


def _rotary(config: BackboneConfig) -> Rotary | None:
    if config.positions != "rope":
        return None
    ready = torch.tensor(config.frequencies, device="cpu") if config.frequencies else None
    return Rotary(
        config.rotary_dim or _head_dim(config), theta=config.theta, sections=config.sections or None,
        frequencies=ready, scale=config.rotary_scale, limit=config.rotary_limit,
    )  # fmt: skip


def _local_rotary(config: BackboneConfig) -> Rotary | None:
    """Of layers with a window, where they turn with a base of their own; it is never stretched."""
    if not config.local_theta:
        return None
    own = {"theta": config.local_theta, "frequencies": (), "rotary_scale": 1.0, "rotary_limit": 0}
    return _rotary(replace(config, **own))


def _block(config: BackboneConfig, layer: int) -> Block:
    before, after = config.norms != "post", config.norms != "pre"
    return Block(
        mixer_norm=_norm(config, config.width) if before else nn.Identity(),
        mixer=_mixer(config, layer),
        mixer_after=_norm(config, config.width) if after else None,
        ff_norm=_norm(config, config.width) if before else nn.Identity(),
        ff=_feed_forward(config, layer),
        ff_after=_norm(config, config.width) if after else None,
    )


def _mixer(config: BackboneConfig, layer: int) -> Attention:
    head_dim, kv_heads = _head_dim(config), config.kv_heads or config.heads
    window = _of_layer(config, "window", layer)
    return Attention(
        config.width, heads=config.heads, kv_heads=kv_heads, head_dim=head_dim,
        bias=config.qkv_bias, out_bias=config.out_bias, window=window or None,
        rotary="none" if layer in config.unturned_layers else "local" if config.local_theta and window else None,
        turned=config.rotary_dim or None,
        scale=_of_layer(config, "score_scale", layer) or None, softcap=config.score_cap or None,
        query_norm=_head_norm(config, config.heads), key_norm=_head_norm(config, kv_heads),
    )  # fmt: skip


def _feed_forward(config: BackboneConfig, layer: int) -> nn.Module:
    if config.experts and layer not in config.dense_layers:
        return Experts(
            config.width, config.experts_hidden, experts=config.experts, chosen=config.experts_chosen,
            renormalise=config.experts_renormalise,
        )  # fmt: skip
    hidden = config.hidden or math.ceil(config.width * 8 / 3 / 32) * 32
    return FEED_FORWARDS[config.ff](config.width, hidden, bias=config.ff_bias)


def _head_dim(config: BackboneConfig) -> int:
    return config.head_dim or config.width // config.heads


def _of_layer(config: BackboneConfig, name: str, layer: int) -> Any:
    value = getattr(config, name)
    return value[layer] if isinstance(value, tuple) else value


def _norm(config: BackboneConfig, width: int) -> nn.Module:
    return NORMS[config.norm](width, eps=config.norm_eps)


def _head_norm(config: BackboneConfig, heads: int) -> nn.Module | None:
    """Of ``heads`` heads, together or each alone."""
    if config.qk_norm == "whole":
        return WholeRMSNorm(heads * _head_dim(config), eps=config.norm_eps)
    return _norm(config, _head_dim(config)) if config.qk_norm else None


def _check(config: BackboneConfig) -> None:
    """Numbers that contradict each other."""
    if config.heads % (config.kv_heads or config.heads):
        raise CheckpointError(f"backbone: {config.heads} query heads cannot share {config.kv_heads} key heads evenly")
    for name, known in (("norm", NORMS), ("norms", ("pre", "post", "both")), ("ff", FEED_FORWARDS)):
        if getattr(config, name) not in known:
            raise CheckpointError(f"backbone: {name} must be one of {', '.join(known)}, got {getattr(config, name)!r}")
    for name in ("unturned_layers", "dense_layers"):
        if not set(getattr(config, name)) <= set(range(config.layers)):
            raise CheckpointError(f"backbone: {name} must lie below {config.layers}, got {getattr(config, name)}")
    for name in ("window", "score_scale"):
        value = getattr(config, name)
        if isinstance(value, tuple) and len(value) != config.layers:
            raise CheckpointError(f"backbone: {config.layers} layers, but {len(value)} values of {name}")
    if config.rotary_dim > _head_dim(config):
        raise CheckpointError(
            f"backbone: rotary_dim {config.rotary_dim} is more than a head of {_head_dim(config)} has"
        )
    if config.experts and not (1 <= config.experts_chosen <= config.experts and config.experts_hidden):
        raise CheckpointError(
            f"backbone: {config.experts} experts need experts_hidden and 1 to {config.experts} experts_chosen, "
            f"got {config.experts_hidden} and {config.experts_chosen}"
        )
    if config.qk_norm == "whole" and config.norm != "rms":
        raise CheckpointError(f"backbone: qk_norm 'whole' is known for norm 'rms', got {config.norm!r}")


def _initialise(backbone: Backbone, layers: int) -> None:
    """Normal 0.02; projections into the residual stream are scaled by depth (GPT-2)."""
    for name, module in backbone.named_modules():
        if isinstance(module, Experts):
            nn.init.normal_(module.experts_gate_up, std=0.02)
            nn.init.normal_(module.experts_down, std=0.02 / math.sqrt(2 * layers))
        if isinstance(module, nn.Linear | nn.Embedding):
            residual = name.endswith(("mixer.out", "ff.down"))
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
