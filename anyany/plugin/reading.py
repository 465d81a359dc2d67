"""Reading a foreign ``config.json``: every value is of the kind that is expected, or an error names its key.

``where`` names the file, and the object in it, for errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyany.errors import CheckpointError

Config = Mapping[str, Any]

ALWAYS: Mapping[str, tuple[Any, ...]] = {
    "quantization_config": (None,), "is_encoder_decoder": (False,), "add_cross_attention": (False,),
}  # fmt: skip
"""Keys of any config, each with the values that are known here."""


def only(config: Config, where: str = "config.json", /, **known: tuple[Any, ...]) -> None:
    """Hold keys to the values that the arithmetic here knows; a key that is missing has the first of them.

    Raises:
        CheckpointError: A key has another value.
    """
    for key, values in {**ALWAYS, **known}.items():
        found = config.get(key, values[0])
        if not any(found == value and isinstance(found, bool) == isinstance(value, bool) for value in values):
            choice = " or ".join(repr(value) for value in values)
            raise CheckpointError(f"{where}: {key} must be {choice} here, got {found!r}")


def number(config: Config, key: str, usual: int | None = None, *, where: str = "config.json") -> int:
    """A whole number above 0 that a config holds; without ``usual`` it must hold it."""
    value = usual if config.get(key) is None else config[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{where}: {key} must be a whole number above 0, got {value!r}")
    return value


def real(config: Config, key: str, usual: float, *, where: str = "config.json") -> float:
    """A number above 0."""
    value = usual if config.get(key) is None else config[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise CheckpointError(f"{where}: {key} must be a number above 0, got {value!r}")
    return float(value)


def cap(config: Config, key: str, usual: float | None) -> float:
    """A number above 0, or 0 where the config says ``null``."""
    return 0.0 if config.get(key, usual) is None else real(config, key, usual or 0.0)


def flag(config: Config, key: str, usual: bool = False, *, where: str = "config.json") -> bool:
    """True or false."""
    value = usual if config.get(key) is None else config[key]
    if not isinstance(value, bool):
        raise CheckpointError(f"{where}: {key} must be true or false, got {value!r}")
    return value


def mapping(config: Config, key: str, *, where: str = "config.json") -> Config:
    """Keys and values, or none."""
    value = config.get(key) or {}
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where}: {key} must be an object, got {value!r}")
    return value


def whole_numbers(config: Config, key: str, usual: list[int]) -> list[int]:
    """A list of whole numbers from 0."""
    value = usual if config.get(key) is None else config[key]
    if not isinstance(value, list) or not all(isinstance(n, int) and n >= 0 for n in value):
        raise CheckpointError(f"config.json: {key} must be a list of whole numbers, got {value!r}")
    return value
