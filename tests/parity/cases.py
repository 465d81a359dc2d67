"""Families and what may differ within them: configurations that change the arithmetic, small enough for a test."""

from __future__ import annotations

from typing import Any, NamedTuple

import transformers

VOCAB = 320
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "intermediate_size": 56, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "max_position_embeddings": 128,
}  # fmt: skip
TRAINED = 16
"""Positions that stretched variants were trained for: the prompt of a test is longer."""


class Case(NamedTuple):
    """A family of transformers by the stem of its classes, and what differs from ``SIZES``."""

    family: str
    variant: str
    stem: str
    changes: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.family}: {self.variant}"

    def config(self) -> Any:
        sizes = {} if self.stem == "GPT2" else SIZES
        return getattr(transformers, f"{self.stem}Config")(**{**sizes, **self.changes})

    @property
    def kind(self) -> Any:
        ends = {"GPT2": "LMHeadModel"}
        return getattr(transformers, self.stem.removesuffix("Text") + ends.get(self.stem, "ForCausalLM"))


def _rope(kind: str, **values: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1000.0, **values}}


def _trained(kind: str, **values: Any) -> dict[str, Any]:
    return _rope(kind, factor=4.0, original_max_position_embeddings=TRAINED, **values)


GPT2 = {
    "vocab_size": VOCAB, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LOCAL = {"rope_type": "default", "rope_theta": 70.0}
LONG = {"short_factor": [1.0, 1.3, 1.5], "long_factor": [1.0, 4.0, 9.0]}
EXPERTS = {"moe_intermediate_size": 24, "num_experts": 6, "num_experts_per_tok": 3}

VARIANTS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("GPT-2", "GPT2"): {
        "tied": GPT2,
        "untied": GPT2 | {"tie_word_embeddings": False},
        "n_inner": GPT2 | {"n_inner": 40},
        "scores unscaled, by layer": GPT2 | {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
        "scores by layer": GPT2 | {"scale_attn_by_inverse_layer_idx": True},
    },
    ("Llama", "Llama"): {
        "8 heads, 2 of keys": {},
        "8 heads, 8 of keys, tied": {"num_key_value_heads": 8, "tie_word_embeddings": True},
        "8 heads, 1 of keys": {"num_key_value_heads": 1},
        "wide heads": {"head_dim": 10},
        "biases": {"attention_bias": True, "mlp_bias": True},
        "rope linear": _rope("linear", factor=4.0),
        "rope llama3": _trained("llama3", low_freq_factor=1.0, high_freq_factor=4.0),
        "rope yarn": _trained("yarn"),
        "rope yarn, betas": {"head_dim": 16, **_trained("yarn", beta_fast=1.5, beta_slow=0.1, truncate=False)},
        "rope yarn, whole betas": {"head_dim": 16, **_trained("yarn", beta_fast=1.5, beta_slow=0.1)},
        "rope yarn, mscale": _trained("yarn", mscale=0.7, mscale_all_dim=0.4),
        "rope yarn, factor": _trained("yarn", attention_factor=1.3),
        "rope dynamic, trained length": _rope("dynamic", factor=4.0),
    },
    ("Mistral", "Mistral"): {
        "window of 5": {"sliding_window": 5},
        "no window": {"sliding_window": None},
        "window, yarn": {"sliding_window": 7, **_trained("yarn")},
    },
    ("Qwen2", "Qwen2"): {
        "biases, tied": {"tie_word_embeddings": True},
        "upper windows": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
        "yarn": _trained("yarn"),
    },
    ("Qwen3", "Qwen3"): {
        "norms of heads": {"head_dim": 12},
        "biases": {"head_dim": 8, "attention_bias": True},
        "yarn": {"head_dim": 12, **_trained("yarn")},
    },
    ("Gemma 2", "Gemma2"): {
        "caps, windows in turns": {
            "head_dim": 12, "sliding_window": 5, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0,
            "query_pre_attn_scalar": 20,
        },
        "no caps, untied, biases": {
            "head_dim": 6, "attn_logit_softcapping": None, "final_logit_softcapping": None,
            "tie_word_embeddings": False, "attention_bias": True, "sliding_window": 9,
        },
        "layer types": {"head_dim": 8, "sliding_window": 3, "layer_types": ["full_attention", "sliding_attention"] * 2},
    },
    ("Gemma 3", "Gemma3Text"): {
        "two bases, untied": {
            "tie_word_embeddings": False, "head_dim": 12, "sliding_window": 5, "query_pre_attn_scalar": 20,
            "sliding_window_pattern": 3,
            "rope_parameters": {"full_attention": {**LOCAL, "rope_theta": 5000.0}, "sliding_attention": LOCAL},
        },
        "stretched, capped logits": {
            "head_dim": 8, "sliding_window": 4, "final_logit_softcapping": 5.0,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 900.0},
                "sliding_attention": LOCAL,
            },
        },
    },
    ("Phi-3", "Phi3"): {
        "all of a head": {},
        "part of a head, window": {
            "num_attention_heads": 6, "num_key_value_heads": 3, "sliding_window": 6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.75},
        },
        "longrope, trained length": {
            "original_max_position_embeddings": 64,
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 500.0, **LONG},
        },
    },
    ("OLMo 2", "Olmo2"): {
        "norms of whole rows": {},
        "biases, tied, 8 of keys": {"attention_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 8},
        "yarn": _trained("yarn"),
    },
    ("SmolLM3", "SmolLM3"): {
        "every fourth unturned": {},
        "named layers, window, biases": {
            "no_rope_layers": [0, 1, 1, 0], "use_sliding_window": True, "sliding_window": 5, "attention_bias": True,
            "mlp_bias": True, "tie_word_embeddings": False,
        },
        "yarn": _trained("yarn"),
    },
    ("Mixtral", "Mixtral"): {
        "2 of 8 experts": {},
        "1 of 3 experts, window, wide heads": {
            "num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 6, "head_dim": 10,
        },
    },
    ("Qwen3-MoE", "Qwen3Moe"): {
        "3 of 6 experts": {"head_dim": 12, **EXPERTS},
        "shares that add up to 1, some dense": {
            "head_dim": 8, **EXPERTS, "norm_topk_prob": True, "mlp_only_layers": [2], "attention_bias": True,
        },
        "every second, window": {
            "head_dim": 8, **EXPERTS, "decoder_sparse_step": 2, "use_sliding_window": True, "sliding_window": 5,
        },
    },
}  # fmt: skip
CASES = [
    Case(family, variant, stem, changes)
    for (family, stem), variants in VARIANTS.items()
    for variant, changes in variants.items()
]
