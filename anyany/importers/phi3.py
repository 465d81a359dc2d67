"""Phi-3: queries, keys and values in one matrix, gate and up in another, a part of each head that is turned."""

from __future__ import annotations

from typing import Any

from anyany.errors import CheckpointError
from anyany.importers.config import Config, decoder, flag, head_dim, mapping, number, one_window, only, real
from anyany.importers.llama import names
from anyany.importers.rope import stretched, values_of
from anyany.plugin import Importer, LanguageModel

NAMES = names(mixer__qkv=("self_attn.qkv_proj",), ff__gate_up=("mlp.gate_up_proj",))


def phi3() -> Importer:
    """``phi3``."""
    return Importer(describe=describe, names=NAMES)


def describe(config: Config) -> LanguageModel:
    """Numbers of a Phi-3."""
    only(config, hidden_act=("silu",))
    return LanguageModel(
        backbone=decoder(config, norm_eps=1e-5, window=one_window(config), **_rope(config)),
        vocab=number(config, "vocab_size"),
        tied=flag(config, "tie_word_embeddings"),
    )


def _rope(config: Config) -> dict[str, Any]:
    config = {"original_max_position_embeddings": 4096, "max_position_embeddings": 4096, **config}
    given = mapping(config, "rope_scaling") or mapping(config, "rope_parameters")
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ("default", "longrope"):
        raise CheckpointError(f"config.json: rotary scaling must be default or longrope here, got {kind!r}")
    outside = {"partial_rotary_factor": real(config, "partial_rotary_factor", 1.0)}
    turned = int(head_dim(config) * real({**outside, **given}, "partial_rotary_factor", 1.0))
    if turned < 2:
        raise CheckpointError(
            f"config.json: partial_rotary_factor leaves {turned} numbers of a head to turn, expected 2"
        )
    base = given.get("rope_theta", config.get("rope_theta", 10000.0))
    fields = stretched(kind, values_of(kind, given, base, config), float(base), turned, config)
    return {**fields, "rotary_dim": turned if turned != head_dim(config) else 0}
