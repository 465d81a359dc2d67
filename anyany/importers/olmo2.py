"""OLMo 2: norms behind mixer and feed-forward, and over all heads of queries and keys at once."""

from __future__ import annotations

from dataclasses import replace

from anyany.importers.config import Config, decoder, flag, number, only
from anyany.importers.llama import names
from anyany.importers.rope import rope
from anyany.plugin import Importer, LanguageModel

_LLAMA = names(mixer_after=("post_attention_layernorm",), ff_after=("post_feedforward_layernorm",))
NAMES = replace(_LLAMA, block={key: name for key, name in _LLAMA.block.items() if key not in ("mixer_norm", "ff_norm")})


def olmo2() -> Importer:
    """``olmo2``."""
    return Importer(describe=describe, names=NAMES)


def describe(config: Config) -> LanguageModel:
    """Numbers of an OLMo 2."""
    only(config, hidden_act=("silu",))
    bias = flag(config, "attention_bias")
    return LanguageModel(
        backbone=decoder(
            config, norm_eps=1e-5, norms="post", qk_norm="whole", qkv_bias=bias, out_bias=bias, **rope(config)
        ),
        vocab=number(config, "vocab_size"),
        tied=flag(config, "tie_word_embeddings"),
    )
