"""Reading the ``config.json`` of a language model: what families have in common beyond single values."""

from __future__ import annotations

from typing import Any

from anyany.errors import CheckpointError
from anyany.plugin.reading import Config, cap, flag, mapping, number, only, real, whole_numbers

__all__ = [
    "Config", "cap", "decoder", "flag", "head_dim", "mapping", "number", "one_window", "only", "real",
    "whole_numbers", "windows",
]  # fmt: skip


def windows(config: Config, sliding: list[bool]) -> tuple[int, ...]:
    """The sliding window of each layer, 0 for none.

    Args:
        config: ``layer_types`` decides where it is there.
        sliding: Which layers slide in files without it.
    """
    usual = ["sliding_attention" if slides else "full_attention" for slides in sliding]
    kinds = config.get("layer_types") or usual
    known = ("full_attention", "sliding_attention")
    if not isinstance(kinds, list) or len(kinds) != len(sliding) or any(kind not in known for kind in kinds):
        raise CheckpointError(f"config.json: layer_types must name {len(sliding)} full or sliding layers, got {kinds}")
    window = number(config, "sliding_window") if "sliding_attention" in kinds else 0
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def one_window(config: Config) -> tuple[int, ...]:
    """The same sliding window for all layers, or none."""
    window = 0 if config.get("sliding_window") is None else number(config, "sliding_window")
    return (window,) * number(config, "num_hidden_layers")


def decoder(config: Config, *, norm_eps: float = 1e-6, **more: Any) -> dict[str, Any]:
    """Numbers of a backbone that most families name alike.

    Args:
        config: Of a model.
        norm_eps: Where the config is silent.
        **more: Fields of ``BackboneConfig`` in addition, or instead.
    """
    width, heads = number(config, "hidden_size"), number(config, "num_attention_heads")
    kv_heads = number(config, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise CheckpointError(
            f"config.json: num_attention_heads must be a multiple of num_key_value_heads, got {heads} and {kv_heads}"
        )
    return {
        "width": width,
        "layers": number(config, "num_hidden_layers"),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim(config),
        "hidden": number(config, "intermediate_size"),
        "norm_eps": real(config, "rms_norm_eps", norm_eps),
        **more,
    }


def head_dim(config: Config) -> int:
    """Width of a head."""
    return number(config, "head_dim", number(config, "hidden_size") // number(config, "num_attention_heads") or 1)
