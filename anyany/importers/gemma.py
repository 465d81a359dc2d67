"""Gemma 2 and the text models of Gemma 3: norms on both sides, embeddings that are scaled, windows in turns.

Gemma 2 caps attention scores and logits; Gemma 3 normalises queries and keys, and layers with a window turn with a
base of their own.
"""

from __future__ import annotations

import math
from typing import Any

from anyany.errors import CheckpointError
from anyany.importers.config import Config, cap, decoder, flag, mapping, number, only, real, windows
from anyany.importers.llama import names
from anyany.importers.rope import rope, scaled
from anyany.plugin import Importer, LanguageModel

NAMES = names(
    mixer_after=("post_attention_layernorm",),
    ff_norm=("pre_feedforward_layernorm",),
    ff_after=("post_feedforward_layernorm",),
)
USUAL_HEAD = 256
"""Width of a head, and ``query_pre_attn_scalar``, where a config is silent."""


def gemma2() -> Importer:
    """``gemma2``."""

    def describe(config: Config) -> LanguageModel:
        config = {"head_dim": USUAL_HEAD, **config}
        sliding = [layer % 2 == 0 for layer in range(number(config, "num_hidden_layers"))]
        return _gemma(
            config, 30.0, score_cap=cap(config, "attn_logit_softcapping", 50.0), window=windows(config, sliding),
            **rope(config),
        )  # fmt: skip

    return Importer(describe=describe, names=NAMES)


def gemma3() -> Importer:
    """``gemma3_text``."""

    def describe(config: Config) -> LanguageModel:
        config = {"head_dim": USUAL_HEAD, **config}
        only(config, attn_logit_softcapping=(None,))  # transformers has the key, and does not heed it
        layers, period = number(config, "num_hidden_layers"), number(config, "sliding_window_pattern", 6)
        sliding = [(layer + 1) % period != 0 for layer in range(layers)]
        return _gemma(config, None, qk_norm=True, window=windows(config, sliding), **_ropes(config))

    return Importer(describe=describe, names=NAMES)


def _gemma(config: Config, softcap: float | None, **more: Any) -> LanguageModel:
    only(config, hidden_activation=("gelu_pytorch_tanh",), use_bidirectional_attention=(None, False))
    bias = flag(config, "attention_bias")
    return LanguageModel(
        backbone=decoder(
            config, norm="rms_plus_one", norms="both", ff="geglu", qkv_bias=bias, out_bias=bias,
            score_scale=1 / math.sqrt(real(config, "query_pre_attn_scalar", USUAL_HEAD)), **more,
        ),
        vocab=number(config, "vocab_size"),
        tied=flag(config, "tie_word_embeddings", True),
        scale=math.sqrt(number(config, "hidden_size")),
        softcap=cap(config, "final_logit_softcapping", softcap),
    )  # fmt: skip


def _ropes(config: Config) -> dict[str, Any]:
    """Of layers that see all, and of those with a window; older files have the second under a name of its own."""
    given = mapping(config, "rope_parameters")
    if odd := given.keys() - {"full_attention", "sliding_attention"}:
        raise CheckpointError(
            f"config.json: rope_parameters must be those of full_attention and sliding_attention, got {sorted(odd)}"
        )
    full = {**mapping(given, "full_attention"), **mapping(config, "rope_scaling")}
    fields = scaled(full, config, theta=1e6, kinds=("default", "linear", "dynamic", "llama3", "yarn"))
    local = {"rope_theta": config.get("rope_local_base_freq", 10000.0), **mapping(given, "sliding_attention")}
    return {**fields, "local_theta": scaled(local, config, theta=10000.0, kinds=("default",))["theta"]}
