"""Decoders of the shape of Llama: their configuration in our words, and where their tensors go.

Llama, Mistral, Qwen2 and Qwen3 differ in a few numbers: biases, norms of queries and keys, windows.
Their rotary embedding turns the two halves of a head, as ours does, so that no weight is reordered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from anyany.backbone.builder import BackboneConfig
from anyany.backbone.positions import rotary_frequencies
from anyany.errors import CheckpointError

TOP = {"backbone.norm": ("model.norm",), "text.embedding": ("model.embed_tokens",), "text.output": ("lm_head",)}
"""Our module -> theirs, outside the blocks."""

BLOCK = {
    "mixer_norm": ("input_layernorm",),
    "mixer.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mixer.query_norm": ("self_attn.q_norm",),
    "mixer.key_norm": ("self_attn.k_norm",),
    "mixer.out": ("self_attn.o_proj",),
    "ff_norm": ("post_attention_layernorm",),
    "ff.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "ff.down": ("mlp.down_proj",),
}
"""Our module in ``backbone.blocks.N`` -> theirs in ``model.layers.N``; several stand one behind the other."""

BUFFERS = ("rotary_emb.inv_freq",)
"""Ends of names that old checkpoints hold and that are no weights."""


@dataclass(frozen=True)
class Family:
    """What sets a family apart.

    Attributes:
        qkv_bias: Key of the config, or the value itself; likewise ``out_bias`` and ``ff_bias``.
        qk_norm: Whether queries and keys are normalised per head.
        windows: Config -> the sliding window of each layer, 0 for none.
    """

    windows: Callable[[Mapping[str, Any]], tuple[int, ...]]
    qkv_bias: str | bool = False
    out_bias: str | bool = False
    ff_bias: str | bool = False
    qk_norm: bool = False


def _no_windows(config: Mapping[str, Any]) -> tuple[int, ...]:
    return (0,) * number(config, "num_hidden_layers")


def _same_windows(config: Mapping[str, Any]) -> tuple[int, ...]:
    return (config.get("sliding_window") or 0,) * number(config, "num_hidden_layers")


def _upper_windows(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The layers that ``layer_types`` names; in older files, those from ``max_window_layers`` on."""
    layers = number(config, "num_hidden_layers")
    if not config.get("use_sliding_window", False):
        return (0,) * layers
    first, window = config.get("max_window_layers", 0), number(config, "sliding_window")
    old = ["full_attention" if layer < first else "sliding_attention" for layer in range(layers)]
    kinds = config.get("layer_types") or old
    if len(kinds) != layers or set(kinds) - {"full_attention", "sliding_attention"}:
        raise CheckpointError(f"config.json: layer_types must name {layers} full or sliding layers, got {kinds}")
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


FAMILIES = {
    "llama": Family(_no_windows, qkv_bias="attention_bias", out_bias="attention_bias", ff_bias="mlp_bias"),
    "mistral": Family(_same_windows),
    "qwen2": Family(_upper_windows, qkv_bias=True),
    "qwen3": Family(_upper_windows, qkv_bias="attention_bias", out_bias="attention_bias", qk_norm=True),
}
"""By ``model_type``."""

_NEUTRAL = {"hidden_act": "silu", "partial_rotary_factor": 1.0, "pretraining_tp": 1, "quantization_config": None}
"""Keys of a config that the arithmetic here knows at one value only."""


def backbone_config(config: Mapping[str, Any]) -> BackboneConfig:
    """A ``config.json`` in our words.

    Raises:
        CheckpointError: The family, a key or a value is not one that is known here.
    """
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise CheckpointError(
            f"config.json: model_type {config.get('model_type')!r} is not known; known are {', '.join(FAMILIES)}"
        )
    for key, value in _NEUTRAL.items():
        if config.get(key, value) != value:
            raise CheckpointError(f"config.json: {key} must be {value!r} here, got {config[key]!r}")
    width, heads = number(config, "hidden_size"), number(config, "num_attention_heads")
    head_dim = number(config, "head_dim", width // heads)
    theta, frequencies = _rope(config, head_dim)

    def switch(value: str | bool) -> bool:
        return value if isinstance(value, bool) else bool(config.get(value, False))

    return BackboneConfig(
        width=width,
        layers=number(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=number(config, "num_key_value_heads", heads),
        head_dim=head_dim,
        hidden=number(config, "intermediate_size"),
        norm_eps=config.get("rms_norm_eps", 1e-6),
        qkv_bias=switch(family.qkv_bias),
        out_bias=switch(family.out_bias),
        ff_bias=switch(family.ff_bias),
        qk_norm=family.qk_norm,
        theta=theta,
        frequencies=frequencies,
        window=family.windows(config),
    )


def number(config: Mapping[str, Any], key: str, usual: int | None = None) -> int:
    """A whole number above 0 that a config holds; without ``usual`` it must hold it."""
    value = usual if config.get(key) is None else config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CheckpointError(f"config.json: {key} must be a whole number above 0, got {value!r}")
    return value


# Which keys each kind of rotary scaling has; any other key changes what it means.
_ROPE = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
_ROPE_ALWAYS = {"rope_theta", "rope_type", "type", "partial_rotary_factor"}


def _rope(config: Mapping[str, Any], head_dim: int) -> tuple[float, tuple[float, ...]]:
    """Base, and ready-made frequencies where they are scaled."""
    given = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    theta = given.get("rope_theta", config.get("rope_theta", 10000.0))
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in _ROPE:
        raise CheckpointError(f"config.json: rotary scaling must be one of {', '.join(_ROPE)}, got {kind!r}")
    values = {key: value for key, value in given.items() if key not in _ROPE_ALWAYS}
    positive = all(isinstance(value, int | float) and value > 0 for value in (theta, *values.values()))
    if values.keys() != set(_ROPE[kind]) or not positive or given.get("partial_rotary_factor", 1) != 1:
        raise CheckpointError(
            f"config.json: rotary scaling {kind!r} must turn whole heads and hold numbers above 0 for "
            f"{', '.join(('rope_theta', *_ROPE[kind]))}; got {given}"
        )
    if kind == "default":
        return float(theta), ()
    plain = rotary_frequencies(head_dim, theta)
    keep: torch.Tensor | float = 0.0  # share of the plain frequency
    if kind == "llama3":
        turns = values["original_max_position_embeddings"] * plain / (2 * math.pi)  # over the trained length
        low, high = values["low_freq_factor"], values["high_freq_factor"]
        if low >= high:
            raise CheckpointError(f"config.json: low_freq_factor must lie below high_freq_factor, got {low} and {high}")
        keep = ((turns - low) / (high - low)).clamp(0, 1)
    return float(theta), tuple((plain * (keep + (1 - keep) / values["factor"])).tolist())
