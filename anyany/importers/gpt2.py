"""GPT-2: learned positions, layer norms, biases, and weights that lie as ``(inputs, outputs)``."""

from __future__ import annotations

import math

from anyany.errors import CheckpointError
from anyany.importers.config import Config, flag, number, only, real
from anyany.plugin import Importer, LanguageModel, Names

NAMES = Names(
    top={
        "backbone.learned.table": "transformer.wpe", "backbone.norm": "transformer.ln_f",
        "text.embedding": "transformer.wte", "text.output": "lm_head",
    },
    layer="transformer.h.{layer}.",
    block={
        "mixer_norm": ("ln_1",), "mixer.qkv": ("attn.c_attn",), "mixer.out": ("attn.c_proj",),
        "ff_norm": ("ln_2",), "ff.up": ("mlp.c_fc",), "ff.down": ("mlp.c_proj",),
    },
    base="transformer.",
    transposed=frozenset({"mixer.qkv", "mixer.out", "ff.up", "ff.down"}),
    buffers=(".attn.bias", ".attn.masked_bias"),
)  # fmt: skip


def gpt2() -> Importer:
    """``gpt2``."""
    return Importer(describe=describe, names=NAMES)


def describe(config: Config) -> LanguageModel:
    """Numbers of a GPT-2."""
    only(config, activation_function=("gelu_new", "gelu_pytorch_tanh"))
    width, heads = number(config, "n_embd"), number(config, "n_head")
    if width % heads:
        raise CheckpointError(f"config.json: n_embd must be a multiple of n_head, got {width} and {heads}")
    return LanguageModel(
        backbone={
            "width": width,
            "layers": number(config, "n_layer"),
            "heads": heads,
            "hidden": number(config, "n_inner", 4 * width),
            "norm": "layer",
            "norm_eps": real(config, "layer_norm_epsilon", 1e-5),
            "ff": "gelu",
            "qkv_bias": True,
            "out_bias": True,
            "ff_bias": True,
            "positions": "learned",
            "max_positions": number(config, "n_positions"),
            "score_scale": _scales(config, width // heads),
        },
        vocab=number(config, "vocab_size"),
        tied=flag(config, "tie_word_embeddings", True),
    )


def _scales(config: Config, head_dim: int) -> tuple[float, ...] | float:
    """Of the scores of each layer; 0 where they are the usual ones."""
    scaled, by_layer = flag(config, "scale_attn_weights", True), flag(config, "scale_attn_by_inverse_layer_idx")
    if scaled and not by_layer:
        return 0.0
    usual = 1 / math.sqrt(head_dim) if scaled else 1.0
    return tuple(usual / (layer + 1 if by_layer else 1) for layer in range(number(config, "n_layer")))
