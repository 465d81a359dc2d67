"""Options of one request, validated once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

from anyany.errors import RequestError, UnknownModalityError
from anyany.heads.steps import Sampling


@dataclass(frozen=True, kw_only=True)
class Options:
    """How one reply is made.

    Attributes:
        want: The exact sequence of modalities of the reply.
        allow: What the model may choose from; ``None`` is everything that it can emit.
        max_new_tokens: Budget of tokens of each text part.
        budgets: Budget of rows per modality and span.
        max_parts: The reply ends after so many parts.
        stop: Strings that end the reply; they are not part of it.
        adapter: Name of the adapter; ``None`` is the one that the model uses, ``"none"`` is no one.
        seed: Seeds every draw of this request.
        sampling: Rule by modality; ``text`` among them.
    """

    want: tuple[str, ...] | None = None
    allow: frozenset[str] | None = None
    max_new_tokens: int = 256
    budgets: Mapping[str, int] = field(default_factory=dict)
    max_parts: int = 16
    stop: tuple[str, ...] = ()
    adapter: str | None = None
    seed: int = 0
    sampling: Mapping[str, Sampling] = field(default_factory=dict)

    def rule(self, modality: str) -> Sampling:
        """The sampling rule of a modality."""
        return self.sampling.get(modality, Sampling())


_SAMPLING = ("temperature", "top_k", "top_p", "repetition_penalty", "guidance", "steps")
_ALL = ("temperature", "steps")
"""One number of these counts for every modality."""
_RANGES = {
    "temperature": (0.0, 100.0),
    "top_k": (0, 1_000_000),
    "top_p": (0.0, 1.0),
    "repetition_penalty": (0.01, 100.0),
    "guidance": (0.0, 100.0),
    "steps": (1, 1000),
}
MAX_TOKENS = 1_000_000
MAX_SEED = 2**63 - 1


def make_options(
    emits: Sequence[str], defaults: Mapping[str, Mapping[str, Any]], seed: int, given: Mapping[str, Any]
) -> Options:
    """Check what a caller passed to ``generate``.

    Args:
        emits: Modalities that the model can emit, ``text`` among them.
        defaults: Sampling values by modality, from the checkpoint.
        seed: Seed of this request.
        given: Keyword arguments of the call. A sampling value is a mapping from modality to number,
            ``temperature={"image": 0.8}``, or one number: ``temperature`` and ``steps`` for all modalities,
            ``guidance`` for all but text, the others for text.

    Raises:
        RequestError: Unknown option, or a value out of range.
        UnknownModalityError: The model cannot emit a wanted modality.
    """
    known = {f.name for f in fields(Options)} - {"sampling", "seed"} | {*_SAMPLING, "do_sample"}
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; options are {', '.join(sorted(known))}"
            raise RequestError(f"generate: unknown option {name!r}{hint}")
    given = {k: v for k, v in given.items() if v is not None}
    want, allow = given.get("want"), given.get("allow")
    if want is not None and allow is not None:
        raise RequestError("generate: want= fixes the reply, allow= leaves a choice; pass one of them")
    if not isinstance(given.get("do_sample", True), bool):
        raise RequestError(f"do_sample: expected True or False, got {given['do_sample']!r}")
    budgets = _mapping("budgets", given.get("budgets", {}), emits)
    if "text" in budgets:
        raise RequestError("budgets: the budget of text is max_new_tokens")
    for name in _SAMPLING:
        if isinstance(given.get(name), Mapping):
            _mapping(name, given[name], emits)
    return Options(
        want=None if want is None else _want(want, emits),
        allow=None if allow is None else frozenset(_some("allow", allow, emits)),
        max_new_tokens=whole("max_new_tokens", given.get("max_new_tokens", 256), 0, MAX_TOKENS),
        budgets={name: whole(f"budgets[{name!r}]", rows, 1, MAX_TOKENS) for name, rows in budgets.items()},
        max_parts=whole("max_parts", given.get("max_parts", 16), 1, 1024),
        stop=_stops(given.get("stop", ())),
        adapter=_name("adapter", given.get("adapter")),
        seed=whole("seed", seed, 0, MAX_SEED),
        sampling={name: _sampling(name, defaults.get(name, {}), given) for name in emits},
    )


def _want(want: Iterable[str], emits: Sequence[str]) -> tuple[str, ...]:
    wanted = tuple(_some("want", want, emits))
    if any(a == b == "text" for a, b in pairwise(wanted)):
        raise RequestError("want: 'text' twice in a row is one part; name it once")
    return wanted


def _some(name: str, given: Iterable[str], emits: Sequence[str]) -> list[str]:
    if not (modalities := _modalities(name, given, emits)):
        raise RequestError(f"{name}: expected at least one modality, got none")
    return modalities


def _modalities(name: str, given: Iterable[str], emits: Sequence[str]) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise RequestError(f"{name}: expected a list of modalities such as ['text'], got {given!r}")
    given = list(given)
    for modality in given:
        if not isinstance(modality, str):
            raise RequestError(f"{name}: expected names of modalities, got {modality!r}")
        if modality not in emits:
            close = difflib.get_close_matches(modality.lower(), emits, 1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else "another needs a plugin, and a model trained with it"
            raise UnknownModalityError(
                f"{name}: the model cannot emit {modality!r}; it emits {', '.join(emits)}; {hint}"
            )
    return given


def _mapping(name: str, given: Any, emits: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise RequestError(f"{name}: expected a mapping from modality to value, got {type(given).__name__}")
    _modalities(name, list(given), emits)
    return given


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in a range, both ends included.

    Raises:
        RequestError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
        raise RequestError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")
    return int(value)


def _stops(stop: Any) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, Iterable) else (stop,)
    if not all(isinstance(s, str) and s for s in stops):
        raise RequestError(f"stop: expected non-empty strings, got {stop!r}")
    return stops


def _name(name: str, given: Any) -> str | None:
    if given is not None and not isinstance(given, str):
        raise RequestError(f"{name}: expected a name, got {given!r:.60}")
    return given


def _sampling(modality: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Sampling:
    values: dict[str, Any] = dict(defaults)
    for name in _SAMPLING:
        if name not in given:
            continue
        value = given[name]
        if isinstance(value, Mapping):
            if modality in value:
                values[name] = value[modality]
        elif name in _ALL or (modality == "text") != (name == "guidance"):  # text opens no branch to be guided by
            values[name] = value
    if given.get("do_sample") is False:
        values["temperature"] = 0.0
    elif given.get("do_sample") is True and modality == "text" and values.get("temperature") == 0:
        if given.get("temperature") is not None:
            raise RequestError("generate: do_sample=True draws, temperature=0 does not; leave one of them out")
        values["temperature"] = 1.0  # the checkpoint is greedy by default, the caller wants draws
    for name, value in values.items():
        if name not in _RANGES:
            raise RequestError(f"{name} of {modality}: no such rule of sampling; there are {', '.join(_RANGES)}")
        low, high = _RANGES[name]
        if isinstance(low, int):
            values[name] = whole(f"{name} of {modality}", value, low, int(high))
        elif isinstance(value, bool) or not isinstance(value, Real) or not low <= value <= high:
            raise RequestError(f"{name} of {modality}: expected a number from {low} to {high}, got {value!r}")
        else:
            values[name] = float(value)
    return Sampling(**values)
