"""Reading a foreign ``config.json``: every value is of the kind that is expected, or an error names its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyany.errors import CheckpointError

Config = Mapping[str, Any]

ALWAYS: Mapping[str, tuple[Any, ...]] = {
    "quantization_config": (None,), "is_encoder_decoder": (False,), "add_cross_attention": (False,),
}  # fmt: skip
"""Keys of any config, each with the values that are known here."""


def only(config: Config, **known: tuple[Any, ...]) -> None:
    """Hold keys to the values that the arithmetic here knows; a key that is missing has the first of them.

    Raises:
        CheckpointError: A key has another value.
    """
    for key, values in {**ALWAYS, **known}.items():
        found = config.get(key, values[0])
        if not any(found == value and isinstance(found, bool) == isinstance(value, bool) for value in values):
            choice = " or ".join(repr(value) for value in values)
            raise CheckpointError(f"config.json: {key} must be {choice} here, got {found!r}")


def number(config: Config, key: str, usual: int | None = None) -> int:
    """A whole number above 0 that a config holds; without ``usual`` it must hold it."""
    value = usual if config.get(key) is None else config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CheckpointError(f"config.json: {key} must be a whole number above 0, got {value!r}")
    return value


def real(config: Config, key: str, usual: float) -> float:
    """A number above 0."""
    value = usual if config.get(key) is None else config[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise CheckpointError(f"config.json: {key} must be a number above 0, got {value!r}")
    return float(value)


def cap(config: Config, key: str, usual: float | None) -> float:
    """A number above 0, or 0 where the config says ``null``."""
    return 0.0 if config.get(key, usual) is None else real(config, key, usual or 0.0)


def flag(config: Config, key: str, usual: bool = False) -> bool:
    """True or false."""
    value = usual if config.get(key) is None else config[key]
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json: {key} must be true or false, got {value!r}")
    return value


def mapping(config: Config, key: str) -> Config:
    """Keys and values, or none."""
    value = config.get(key) or {}
    if not isinstance(value, Mapping):
        raise CheckpointError(f"config.json: {key} must be an object, got {value!r}")
    return value


def whole_numbers(config: Config, key: str, usual: list[int]) -> list[int]:
    """A list of whole numbers from 0."""
    value = usual if config.get(key) is None else config[key]
    if not isinstance(value, list) or not all(isinstance(n, int) and n >= 0 for n in value):
        raise CheckpointError(f"config.json: {key} must be a list of whole numbers, got {value!r}")
    return value


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
