"""Recipes: training as data. TOML, validated, changed by ``key=value``, stored with the result."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from anyany.errors import RecipeError
from anyany.training.optim import Schedule
from anyany.training.paths import source_at

EXAMPLES = {"name": "name=try", "model": "model=mini", "sources": "sources.mine=photos.jsonl"}
"""How a key that is missing may be given on the command line."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run.

    Attributes:
        name: Of the run.
        task: ``codec``: codecs by their own losses; ``bind``: encoders by contrast of pairs; ``sequence``:
            everything by conversations.
        model: Where the model comes from: a checkpoint, or ``"package.module:callable"``.
        sources: Data by name: ``factory`` (``"package.module:callable"``), ``weight`` and ``options``.
        rates: Learning rate by component; a name that ends in ``/`` stands for all that begin with it.
        lora: An adapter to train: ``targets`` and ``rate``, and if need be ``rank`` and ``alpha`` (``Adapters.add``).
        weights: Weight of each head's loss in the sum; 1 where not named.
        steps: Optimiser steps.
        warmup: Of the schedule, likewise ``schedule``, ``floor`` and ``decay``.
        rows: Rows of a packed batch (``sequence``), or samples of a batch (``codec``, ``bind``).
        accumulate: Batches per step, over all ranks.
        shard: Keep the backbone in shards, one on each rank, in place of a copy on each.
        clip: Largest gradient norm.
        weight_decay: On matrices.
        ema: Decay of a running average of the weights, which becomes the result; 0 is none.
        recompute: Make what blocks of the backbone hold for the backward pass again, in place of keeping it.
        tracker: ``trackio`` or ``wandb`` gets the metrics as well; empty is none.
        precision: ``float32``, ``bfloat16`` under autocast, or ``auto``: the faster of the two on this processor.
        seed: Of data order, augmentation and initial weights.
        checkpoint_every: Steps between checkpoints; ``keep`` of them stay.
        log_every: Steps between lines of metrics.
        on_nan: ``stop`` or ``skip`` a step whose loss or gradient is not finite.
        workers: Processes that read and prepare samples; 0: a thread of the run itself does.
        on_broken: ``stop`` at a sample that cannot be used, or ``skip`` and report it.
        dtype: Type in which the result is stored.
        evaluate: What is measured every ``every`` steps and behind the last: ``tasks`` of ``anyany eval``, or ``data``,
            a JSONL file of conversations, by ``metrics``; at most ``limit`` items of each.
        store: Folder in which the rows of frozen encoders and codecs are kept; ``None`` encodes them each time.
    """

    name: str
    model: str
    sources: Mapping[str, Mapping[str, Any]]
    rates: Mapping[str, float] = field(default_factory=dict)
    lora: Mapping[str, Any] | None = None
    task: Literal["codec", "bind", "sequence"] = "sequence"
    weights: Mapping[str, float] = field(default_factory=dict)
    steps: int = 1000
    warmup: int = 0
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "cosine"
    floor: float = 0.0
    decay: int = 0
    rows: int = 2048
    accumulate: int = 1
    shard: bool = False
    clip: float = 1.0
    weight_decay: float = 0.05
    ema: float = 0.0
    recompute: bool = False
    tracker: Literal["", "trackio", "wandb"] = ""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    workers: int = 0
    seed: int = 0
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 20
    on_nan: Literal["stop", "skip"] = "stop"
    on_broken: Literal["stop", "skip"] = "stop"
    dtype: Literal["float32", "bfloat16"] = "float32"
    store: str | None = None
    evaluate: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, low in (
            ("steps", 1), ("rows", 1), ("accumulate", 1), ("checkpoint_every", 1), ("keep", 1), ("log_every", 1),
            ("workers", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise RecipeError(f"recipe: {name} must be a whole number from {low}, got {value!r}")
        for name, allowed in (
            ("task", ("codec", "bind", "sequence")), ("precision", ("auto", "float32", "bfloat16")),
            ("on_nan", ("stop", "skip")), ("on_broken", ("stop", "skip")), ("dtype", ("float32", "bfloat16")),
            ("recompute", (False, True)), ("shard", (False, True)), ("tracker", ("", "trackio", "wandb")),
        ):  # fmt: skip
            if getattr(self, name) not in allowed:
                names = ", ".join(str(each).lower() if isinstance(each, bool) else each or "''" for each in allowed)
                raise RecipeError(f"recipe: {name} must be one of {names}, got {getattr(self, name)!r}")
        if isinstance(self.ema, bool) or not isinstance(self.ema, int | float) or not 0 <= self.ema < 1:
            raise RecipeError(f"recipe: ema must be a number from 0 to below 1, such as 0.999, got {self.ema!r}")
        if self.store is not None and not (isinstance(self.store, str) and self.store):
            raise RecipeError(f"recipe: store must be the path of a folder, got {self.store!r}")
        if self.store is not None and self.task == "codec":
            raise RecipeError("recipe: the task codec trains what it encodes with; leave out store")
        if self.shard and self.task != "sequence":
            raise RecipeError(f"recipe: the task {self.task} does not run the backbone; leave out shard")
        if self.lora is not None:
            _check_lora(self.lora)
        if self.evaluate is not None:
            _check_evaluate(self.evaluate)
            if self.shard:
                raise RecipeError("recipe: a backbone in shards answers no prompts; leave out evaluate, or shard")
        if not self.sources:
            raise RecipeError("recipe: expected at least one source")
        for name, source in self.sources.items():
            if unknown := set(source) - {"factory", "weight", "options"}:
                raise RecipeError(f"source {name!r}: unknown keys {sorted(unknown)}; expected factory, weight, options")
            if "factory" not in source:
                raise RecipeError(f"source {name!r}: expected factory = 'package.module:callable'")
        self.plan()

    def plan(self) -> Schedule:
        """The learning-rate schedule."""
        return Schedule(
            steps=self.steps, warmup=self.warmup, kind=self.schedule, floor=self.floor, decay=self.decay
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def _check_lora(lora: Mapping[str, Any]) -> None:
    if unknown := set(lora) - {"targets", "rate", "rank", "alpha"}:
        raise RecipeError(f"lora: unknown keys {sorted(unknown)}; expected targets, rate, rank, alpha")
    targets, rate, alpha = lora.get("targets"), lora.get("rate"), lora.get("alpha", 1.0)
    if not isinstance(targets, list | tuple) or not all(isinstance(target, str) for target in targets):
        raise RecipeError(f"lora: expected targets = ['backbone', ...], got {targets!r}")
    for name, value in (("rate", rate), ("alpha", alpha)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise RecipeError(f"lora: expected {name} above 0, got {value!r}")


def _check_evaluate(wanted: Mapping[str, Any]) -> None:
    if unknown := set(wanted) - {"tasks", "data", "metrics", "every", "limit"}:
        raise RecipeError(f"evaluate: unknown keys {sorted(unknown)}; expected tasks, data, metrics, every, limit")
    for name in ("tasks", "metrics"):
        value = wanted.get(name, ())
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise RecipeError(f"evaluate: expected {name} = ['...'], got {value!r}")
    if not isinstance(wanted.get("data", ""), str) or not (wanted.get("tasks") or wanted.get("data")):
        raise RecipeError("evaluate: expected tasks = ['...'] of anyany eval --list, or data = 'conversations.jsonl'")
    if wanted.get("metrics") and not wanted.get("data"):
        raise RecipeError("evaluate: metrics are those of data; tasks bring their own")
    for name in ("every", "limit"):
        value = wanted.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise RecipeError(f"evaluate: {name} must be a whole number from 1, got {value!r}")


def shipped() -> dict[str, Path]:
    """Recipes that ship, by name; they want a model and sources."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a TOML file and apply ``key=value`` overrides; ``rates.backbone=1e-4`` reaches inside.

    Args:
        path: The file, or the name of a recipe that ships.
        overrides: In order.

    Raises:
        RecipeError: The file is no TOML, a key is unknown, or a value is out of range.
    """
    path = shipped().get(str(path), Path(path))
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join(shipped())
        raise RecipeError(f"recipe: no file {path}; pass a path to a TOML file, or one of {names}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {path.name}: not valid TOML: {error}") from None
    for override in overrides:
        _override(data, override)
    return make_recipe(data)


def make_recipe(data: Mapping[str, Any]) -> Recipe:
    """A recipe from a mapping; strict about its keys."""
    known = [f.name for f in fields(Recipe)]
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"keys are {', '.join(known)}"
            raise RecipeError(f"recipe: unknown key {key!r}; {hint}")
    for key in ("name", "model", "sources"):
        if key not in data:
            raise RecipeError(f"recipe: the key {key!r} is missing; give it in the file, or as {EXAMPLES[key]}")
    sources, task = data["sources"], data.get("task", "sequence")
    if not isinstance(sources, Mapping):
        raise RecipeError(f"recipe: sources must be a table of sources by name, got {sources!r:.60}")
    whole = {name: source_at(each, task) if isinstance(each, str) else each for name, each in sources.items()}
    return Recipe(**{**data, "sources": whole})


def _value(text: str) -> Any:
    """JSON, or whatever may stand behind an equals sign in TOML; all else is a string."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _override(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"override {text!r}: expected key=value")
    parsed = _value(value)
    *path, last = key.split(".")
    for name in path:
        data = data.setdefault(name, {})
        if not isinstance(data, dict):
            raise RecipeError(f"override {text!r}: {name!r} is no table")
    data[last] = parsed
