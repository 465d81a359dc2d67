"""Rotary positions of a ``config.json``: their base, and how they are stretched.

Shapes: R numbers of a head that are turned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from anyany.backbone.positions import rotary_frequencies
from anyany.errors import CheckpointError
from anyany.importers.config import Config, head_dim, mapping, number

Values = Mapping[str, Any]


def rope(
    config: Config,
    *,
    theta: float = 10000.0,
    kinds: tuple[str, ...] = ("default", "linear", "dynamic", "llama3", "yarn"),
) -> dict[str, Any]:
    """Fields of ``BackboneConfig`` for the rotary embedding.

    Args:
        config: With ``rope_parameters``, or with ``rope_theta`` and ``rope_scaling`` as older files have it.
        theta: The base where it has none.
        kinds: Of scaling that the family knows.

    Raises:
        CheckpointError: A key or value is not known here.
    """
    given = {**mapping(config, "rope_scaling"), **mapping(config, "rope_parameters")}
    return scaled(given, config, theta=theta, kinds=kinds)


def scaled(given: Values, config: Config, *, theta: float, kinds: tuple[str, ...]) -> dict[str, Any]:
    """The same for ``given`` parameters; what is said outside of them holds for those that are silent."""
    base = given.get("rope_theta", config.get("rope_theta", theta))
    kind = given.get("rope_type", given.get("type", "default"))
    share = given.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if kind not in kinds:
        raise CheckpointError(f"config.json: rotary scaling must be one of {', '.join(kinds)}, got {kind!r}")
    if share != 1.0:
        raise CheckpointError(
            f"config.json: partial_rotary_factor must be 1.0 here (it must turn whole heads), got {share!r}"
        )
    return stretched(kind, values_of(kind, given, base, config), float(base), head_dim(config), config)


# Which keys each kind of scaling must have, and may have; any other key changes what it means.
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ()),
    "linear": (("factor",), ()),
    "dynamic": (("factor",), ()),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"), ()),
    "yarn": (
        ("factor", "original_max_position_embeddings"),
        ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    ),
    "longrope": (("short_factor", "long_factor", "original_max_position_embeddings"), ("attention_factor", "factor")),
}
_ALWAYS = {"rope_theta", "rope_type", "type", "partial_rotary_factor"}
_LISTS = ("short_factor", "long_factor")


def values_of(kind: str, given: Values, base: Any, config: Config) -> dict[str, Any]:
    """What a kind of scaling is told, checked; a trained length that stands outside of it comes first."""
    must, may = _KEYS[kind]
    values = {key: value for key, value in given.items() if key not in _ALWAYS and value is not None}
    if "original_max_position_embeddings" in must:
        told = values.get("original_max_position_embeddings", config.get("max_position_embeddings"))
        values["original_max_position_embeddings"] = config.get("original_max_position_embeddings", told)
    numbers = {key: value for key, value in values.items() if key not in (*_LISTS, "truncate")}
    positive = all(_positive(value) for value in (base, *numbers.values()))
    if not set(must) <= values.keys() <= {*must, *may} or not positive:
        raise CheckpointError(
            f"config.json: rotary scaling {kind!r} must hold numbers above 0 for "
            f"{', '.join(('rope_theta', *must))} and no key but {', '.join((*must, *may)) or 'it'}; got {dict(given)}"
        )
    return values


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def stretched(kind: str, values: Values, base: float, width: int, config: Config) -> dict[str, Any]:
    """Fields of ``BackboneConfig`` for one kind, where ``width`` R numbers of a head are turned."""
    fields: dict[str, Any] = {"theta": base, **_KINDS[kind](values, base, width, config)}
    if isinstance(fields.get("frequencies"), Tensor):
        fields["frequencies"] = tuple(fields["frequencies"].tolist())
    return fields


def _default(values: Values, base: float, width: int, config: Config) -> dict[str, Any]:
    return {}


def _linear(values: Values, base: float, width: int, config: Config) -> dict[str, Any]:
    return {"frequencies": rotary_frequencies(width, base) / values["factor"]}


def _dynamic(values: Values, base: float, width: int, config: Config) -> dict[str, Any]:
    """Plain up to the trained length.

    Beyond it transformers takes other frequencies with each new length, for new keys alone: what it answers then
    depends on how a text was cut into passes, and on what was asked before. Nothing could be equal to that.
    """
    return {"rotary_limit": number(config, "max_position_embeddings")}


def _llama3(values: Values, base: float, width: int, config: Config) -> dict[str, Any]:
    plain = rotary_frequencies(width, base)
    turns = values["original_max_position_embeddings"] * plain / (2 * math.pi)  # over the trained length
    low, high = values["low_freq_factor"], values["high_freq_factor"]
    if low >= high:
        raise CheckpointError(f"config.json: low_freq_factor must lie below high_freq_factor, got {low} and {high}")
    return {"frequencies": _between(plain, ((turns - low) / (high - low)).clamp(0, 1), values["factor"])}


def _yarn(values: Values, base: float, width: int, config: Config) -> dict[str, Any]:
    """YaRN (Peng et al. 2023, arXiv 2309.00071): frequencies that turn often over the trained length are kept."""
    factor, trained = values["factor"], values["original_max_position_embeddings"]

    def place(turns: float) -> float:
        """Index of the frequency that turns so often over the trained length."""
        return width * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = place(values.get("beta_fast", 32)), place(values.get("beta_slow", 1))
    if values.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    slope = (torch.arange(width // 2, dtype=torch.float32) - low) / (high - low or 0.001)
    return {
        "frequencies": _between(rotary_frequencies(width, base), 1 - slope.clamp(0, 1), factor),
        "rotary_scale": values.get("attention_factor", _length(factor, values)),
    }


def _length(factor: float, values: Values) -> float:
    """How much YaRN lengthens what is turned."""

    def of(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    if "mscale" in values and "mscale_all_dim" in values:
        return of(values["mscale"]) / of(values["mscale_all_dim"])
    return of(1.0)


def _longrope(values: Values, base: float, width: int, config: Config) -> dict[str, Any]:
    """LongRoPE (Ding et al. 2024, arXiv 2402.13753) up to the trained length.

    Beyond it all frequencies of the text are others, those of what was read before included.
    """
    trained = values["original_max_position_embeddings"]
    factor = values.get("factor", number(config, "max_position_embeddings") / trained)
    usual = math.sqrt(1 + math.log(factor) / math.log(trained)) if factor > 1 else 1.0
    for key in _LISTS:
        if not (isinstance(values[key], list) and len(values[key]) == width // 2 and all(map(_positive, values[key]))):
            raise CheckpointError(f"config.json: {key} must be {width // 2} numbers above 0, got {values[key]}")
    return {
        "frequencies": rotary_frequencies(width, base) / torch.tensor(values["short_factor"]),
        "rotary_scale": values.get("attention_factor", usual),
        "rotary_limit": trained,
    }


def _between(plain: Tensor, keep: Tensor, factor: float) -> Tensor:
    """Frequencies of which a share is kept, and the rest stretched."""
    return plain * (keep + (1 - keep) / factor)


_KINDS: dict[str, Callable[[Values, float, int, Config], dict[str, Any]]] = {
    "default": _default, "linear": _linear, "dynamic": _dynamic, "llama3": _llama3, "yarn": _yarn,
    "longrope": _longrope,
}  # fmt: skip
