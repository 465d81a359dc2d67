"""Decoders of the shape of Llama: Llama 2 and 3, Mistral, Qwen2, Qwen2.5 and Qwen3.

They differ in a few numbers: biases, norms of queries and keys, windows. Their rotary embedding turns the two halves
of a head, as ours does, so that no weight is reordered.
"""

from __future__ import annotations

from typing import Any

from anyany.errors import CheckpointError
from anyany.importers.config import Config, decoder, flag, number, one_window, only, windows
from anyany.importers.rope import rope
from anyany.plugin import Importer, LanguageModel, Names

TOP = {"backbone.norm": "model.norm", "text.embedding": "model.embed_tokens", "text.output": "lm_head"}

ATTENTION = {
    "mixer.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mixer.query_norm": ("self_attn.q_norm",),
    "mixer.key_norm": ("self_attn.k_norm",),
    "mixer.out": ("self_attn.o_proj",),
}
FEED_FORWARD = {"ff.gate_up": ("mlp.gate_proj", "mlp.up_proj"), "ff.down": ("mlp.down_proj",)}
NORMS = {"mixer_norm": ("input_layernorm",), "ff_norm": ("post_attention_layernorm",)}


def names(**changes: tuple[str, ...]) -> Names:
    """Names as Llama has them, but for some modules of a block (with ``__`` for the dot)."""
    block = {**NORMS, **ATTENTION, **FEED_FORWARD, **{key.replace("__", "."): value for key, value in changes.items()}}
    return Names(top=TOP, layer="model.layers.{layer}.", block=block)


def llama() -> Importer:
    """``llama``."""

    def describe(config: Config) -> LanguageModel:
        only(config, pretraining_tp=(1, None))
        bias = flag(config, "attention_bias")
        return plain(config, qkv_bias=bias, out_bias=bias, ff_bias=flag(config, "mlp_bias"))

    return Importer(describe=describe, names=names())


def mistral() -> Importer:
    """``mistral``."""
    return Importer(describe=lambda config: plain(config, window=one_window(config)), names=names())


def qwen2() -> Importer:
    """``qwen2``."""
    return Importer(describe=lambda config: plain(config, qkv_bias=True, window=upper(config)), names=names())


def qwen3() -> Importer:
    """``qwen3``."""

    def describe(config: Config) -> LanguageModel:
        bias = flag(config, "attention_bias")
        return plain(config, qkv_bias=bias, out_bias=bias, qk_norm=True, window=upper(config))

    return Importer(describe=describe, names=names())


def plain(config: Config, **more: Any) -> LanguageModel:
    """What the families of this file share."""
    only(config, hidden_act=("silu",))
    return LanguageModel(
        backbone=decoder(config, **rope(config), **more),
        vocab=number(config, "vocab_size"),
        tied=flag(config, "tie_word_embeddings"),
    )


def upper(config: Config) -> tuple[int, ...]:
    """Windows of the layers that ``layer_types`` names; in older files, of those from ``max_window_layers`` on."""
    layers = number(config, "num_hidden_layers")
    if not flag(config, "use_sliding_window"):
        return (0,) * layers
    first = config.get("max_window_layers", 0)
    if not isinstance(first, int):
        raise CheckpointError(f"config.json: max_window_layers must be a whole number, got {first!r}")
    return windows(config, [layer >= first for layer in range(layers)])
