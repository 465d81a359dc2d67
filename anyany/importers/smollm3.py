"""SmolLM3: a Llama in which some layers, every fourth as a rule, have no rotary positions."""

from __future__ import annotations

from anyany.errors import CheckpointError
from anyany.importers.config import Config, decoder, flag, number, only, whole_numbers, windows
from anyany.importers.llama import names
from anyany.importers.rope import rope
from anyany.plugin import Importer, LanguageModel


def smollm3() -> Importer:
    """``smollm3``."""
    return Importer(describe=describe, names=names())


def describe(config: Config) -> LanguageModel:
    """Numbers of a SmolLM3."""
    only(config, hidden_act=("silu",))
    turned, bias = _turned(config), flag(config, "attention_bias")
    return LanguageModel(
        backbone=decoder(
            config, qkv_bias=bias, out_bias=bias, ff_bias=flag(config, "mlp_bias"), window=_windows(config, turned),
            unturned_layers=tuple(layer for layer, turns in enumerate(turned) if not turns),
            **rope(config, theta=2e6),
        ),
        vocab=number(config, "vocab_size"),
        tied=flag(config, "tie_word_embeddings", True),
    )  # fmt: skip


def _turned(config: Config) -> list[int]:
    """For each layer, whether it has rotary positions: 1 or 0."""
    layers, period = number(config, "num_hidden_layers"), number(config, "no_rope_layer_interval", 4)
    turned = whole_numbers(config, "no_rope_layers", [int((layer + 1) % period != 0) for layer in range(layers)])
    if len(turned) < layers:
        raise CheckpointError(f"config.json: no_rope_layers must say 1 or 0 for {layers} layers, got {turned}")
    return turned[:layers]


def _windows(config: Config, turned: list[int]) -> tuple[int, ...]:
    """Layers without positions have the window, where there is one and ``layer_types`` does not say otherwise."""
    slides = flag(config, "use_sliding_window")
    kinds = config.get("layer_types")
    if not slides and isinstance(kinds, list) and "sliding_attention" in kinds:
        raise CheckpointError("config.json: layer_types names sliding layers, use_sliding_window must be true then")
    has = slides and config.get("sliding_window") is not None
    return windows(config, [has and not turns for turns in turned])
