"""Mixtures of experts in the shape of Llama: Mixtral and Qwen3-MoE."""

from __future__ import annotations

from anyany.errors import CheckpointError
from anyany.importers.config import Config, decoder, flag, number, one_window, only, whole_numbers
from anyany.importers.llama import names
from anyany.importers.rope import rope
from anyany.plugin import Importer, LanguageModel, Names


def mixtral() -> Importer:
    """``mixtral``."""
    return Importer(describe=_mixtral, names=_names("block_sparse_moe", gate="w1", up="w3", down="w2"))


def qwen3_moe() -> Importer:
    """``qwen3_moe``."""
    return Importer(describe=_qwen3_moe, names=_names("mlp", gate="gate_proj", up="up_proj", down="down_proj"))


def _names(before: str, *, gate: str, up: str, down: str) -> Names:
    """Names as Llama has them, with experts in the place of the feed-forward."""
    each = before + ".experts.{expert}."
    return names(
        ff__router=(f"{before}.gate",),
        ff__experts_gate_up=(f"{each}{gate}.weight", f"{each}{up}.weight"),
        ff__experts_down=(f"{each}{down}.weight",),
    )


def _mixtral(config: Config) -> LanguageModel:
    only(config, hidden_act=("silu",))
    return LanguageModel(
        backbone=decoder(
            config, norm_eps=1e-5, hidden=0, window=one_window(config),
            **_experts(config, "num_local_experts", "intermediate_size"), **rope(config, theta=1e6),
        ),
        vocab=number(config, "vocab_size"),
        tied=flag(config, "tie_word_embeddings"),
    )  # fmt: skip


def _qwen3_moe(config: Config) -> LanguageModel:
    only(config, hidden_act=("silu",))
    layers, step = number(config, "num_hidden_layers"), number(config, "decoder_sparse_step", 1)
    named, bias = whole_numbers(config, "mlp_only_layers", []), flag(config, "attention_bias")
    key = "num_local_experts" if "num_local_experts" in config else "num_experts"  # newer files have the first
    dense = tuple(layer for layer in range(layers) if layer in named or (layer + 1) % step)
    return LanguageModel(
        backbone=decoder(
            config, qk_norm=True, qkv_bias=bias, out_bias=bias, dense_layers=dense,
            hidden=number(config, "intermediate_size") if dense else 0,
            window=one_window(config) if flag(config, "use_sliding_window") else 0,
            experts_renormalise=flag(config, "norm_topk_prob"),
            **_experts(config, key, "moe_intermediate_size"), **rope(config),
        ),
        vocab=number(config, "vocab_size"),
        tied=flag(config, "tie_word_embeddings"),
    )  # fmt: skip


def _experts(config: Config, key: str, hidden: str) -> dict[str, int]:
    """How many there are, how many a row takes, and their hidden width."""
    experts, chosen = number(config, key), number(config, "num_experts_per_tok")
    if chosen > experts:
        raise CheckpointError(f"config.json: num_experts_per_tok must be at most {key}, got {chosen} and {experts}")
    return {"experts": experts, "experts_chosen": chosen, "experts_hidden": number(config, hidden)}
