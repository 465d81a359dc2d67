"""Checkpoints: a directory with JSON and one safetensors shard per component. No pickle, no code.

``config.json`` names components by the id and version of an installed plugin; loading imports nothing
else. Everything is written to a temporary directory beside the target, synced, then renamed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from anyany.engine import make_options
from anyany.errors import (
    AnyanyError,
    CheckpointError,
    MissingPackageError,
    MissingPluginError,
    PluginError,
    UnknownModalityError,
)
from anyany.model.build import BuildConfig, build
from anyany.model.directory import write_directory
from anyany.model.template import ChatTemplate
from anyany.model.tokenizer import TextTokenizer
from anyany.plugin.registry import Registry, registry

if TYPE_CHECKING:
    from anyany.model.model import Model

Kind = Literal["encoder", "codec"]

FORMAT = 1
TEMPLATE = "chat_template.jinja"
_ID = re.compile(r"([a-z][a-z0-9_-]*)/[a-z0-9][a-z0-9._-]*")
_VERSION = re.compile(r"[0-9A-Za-z.+!-]+")


def save(model: Model, path: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a checkpoint; a previous one at ``path`` is replaced as a whole, or not at all.

    Args:
        model: What to write.
        path: Directory; it must not exist, be empty, or hold a checkpoint.
        dtype: Floating tensors are stored in this type; ``None`` keeps theirs.

    Raises:
        CheckpointError: ``path`` holds something else, or cannot be written.
    """
    write_directory(path, lambda folder: _write(model, folder, dtype), _is_checkpoint)


def _is_checkpoint(path: Path) -> bool:
    """Whether a directory is a checkpoint of ours; a config.json of others is not enough."""
    try:
        return {"format", "backbone", "text"} <= set(read_json(path / "config.json"))
    except CheckpointError:
        return False


def _write(model: Model, folder: Path, dtype: torch.dtype | None) -> None:
    (folder / "config.json").write_text(json.dumps(describe(model).to_json(), indent=1) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(model.generation, indent=1) + "\n")
    (folder / "tokenizer.json").write_text(model.tokenizer.backend.to_str(), encoding="utf-8")
    (folder / "README.md").write_text(model.card or "# An anyany model\n", encoding="utf-8")
    if model.tokenizer.template is not None:
        (folder / TEMPLATE).write_text(model.tokenizer.template.source, encoding="utf-8")
    for name, component in model.components.items():
        tensors = {}
        for key, value in component.state_dict().items():
            cast = value.detach().cpu().contiguous()
            tensors[key] = cast.to(dtype) if dtype is not None and cast.is_floating_point() else cast.clone()
        save_file(tensors, folder / shard_name(name), metadata={"component": name})


def describe(model: Model) -> BuildConfig:
    """The configuration from which an equal model can be built."""
    template = model.tokenizer.template
    return BuildConfig(
        backbone=model.backbone.config.to_json(),
        text={
            "vocab": model.text.vocab, "tied": model.text.tied, "scale": model.text.scale,
            "softcap": model.text.softcap, "marks": model.tokenizer.to_json(),
            **({} if template is None else {"template": template.to_json()}),
        },
        encoders=tuple(
            {
                "id": e.spec.id, "config": dict(e.config), "projector": dict(e.projector_config),
                **({} if e.stand is None else {"stand": asdict(e.stand)}),
            }
            for e in model.encoder_parts
        ),
        decoders=tuple(
            {"id": d.spec.id, "config": dict(d.config), "head": dict(d.head_config)} for d in model.decoders
        ),
        versions={r.name: r.version for r in registry().records if r.status == "ok"},
        origin=model.origin,
        origin_files=model.origin_files,
    )  # fmt: skip


def load(path: Path, *, missing: str = "error", plugins: Registry | None = None) -> Model:
    """Read a checkpoint.

    Args:
        path: Its directory.
        missing: What to do about a component whose plugin is not installed: ``error`` or ``drop``.
        plugins: Where components come from; the machine's own by default.

    Raises:
        CheckpointError: A file is missing, damaged, of a newer format, or does not fit the config.
        MissingPluginError: A plugin is missing; the message has the install command.
    """
    if missing not in ("error", "drop"):
        raise CheckpointError(f"missing: expected 'error' or 'drop', got {missing!r}")
    plugins = plugins or registry()
    config = _installed(_config(path), plugins, drop=missing == "drop")
    model = _described(path, config, plugins)
    for name, component in model.components.items():
        _fill(component, path / shard_name(name), name)
    return model.eval()


def load_component(path: Path, kind: Kind, which: str, plugins: Registry) -> nn.Module:
    """Read one encoder or codec of a checkpoint; no other shard is opened.

    Args:
        path: Directory of the checkpoint.
        kind: Of the component.
        which: Its id, or its modality.
        plugins: Where components come from.

    Raises:
        CheckpointError: As for ``load``.
        MissingPluginError: Its plugin is missing; those of others need not be there.
        UnknownModalityError: The checkpoint has no such component.
    """
    config, entries = _config(path), "encoders" if kind == "encoder" else "decoders"
    every = getattr(config, entries)
    named = tuple(e for e in every if isinstance(e, Mapping) and e.get("id") == which)
    asked = replace(config, **{"encoders": (), "decoders": (), entries: named or every})
    find = plugins.encoder if kind == "encoder" else plugins.codec
    for entry in getattr(_installed(asked, plugins, drop=not named), entries):
        spec = find(entry["id"])
        if which in (spec.id, spec.modality):
            component: nn.Module = plugins.build(spec, **entry.get("config", {}))
            name = f"{kind}/{spec.id}"
            _fill(component, path / shard_name(name), name)
            return component.eval()
    ids = ", ".join(str(e["id"]) for e in every) or "none"
    raise UnknownModalityError(f"{path}: has no {kind} for {which!r}; its {kind}s: {ids}")


def _config(path: Path) -> BuildConfig:
    data = read_json(path / "config.json")
    if data.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected format {FORMAT}, got {data.get('format')!r}; a newer anyany may read it"
        )
    return BuildConfig.from_json(data)


def _described(path: Path, config: BuildConfig, plugins: Registry) -> Model:
    """The model that the JSON files describe, with fresh weights."""
    generation, card = read_json(path / "generation_config.json"), path / "README.md"
    if odd := [name for name, values in generation.items() if not isinstance(values, dict)]:
        raise CheckpointError(f"{path}: generation_config.json: expected values by modality, got none for {odd[0]!r}")
    try:
        tokenizer = TextTokenizer.open(path / "tokenizer.json", config.text["marks"], _template(path, config))
        vocab, highest = config.text["vocab"], max(tokenizer.marks.ids, default=0)
        if not max(tokenizer.vocab - 1, highest) < vocab:
            raise CheckpointError(
                f"{path}: the config has {vocab} rows of text, the tokenizer needs {tokenizer.vocab} and mark {highest}"
            )
        text = card.read_text(encoding="utf-8", errors="replace") if card.exists() else ""
        _measure(path, config)
        model = build(config, tokenizer, plugins=plugins, generation=generation, card=text)
        make_options(model.emits, model.generation, 0, {})
    except (CheckpointError, MissingPackageError):
        raise
    except AnyanyError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # numbers and shapes of which no modules can be made
        raise CheckpointError(
            f"{path}: config.json does not describe a model ({type(error).__name__}); copy or write it again"
        ) from None
    return model


def _template(path: Path, config: BuildConfig) -> ChatTemplate | None:
    if "template" not in config.text:
        return None
    template = ChatTemplate(source=read_text(path / TEMPLATE), **config.text["template"])
    template.check()
    return template


def _measure(path: Path, config: BuildConfig) -> None:
    """Hold numbers of the config to the shards first, so that a few digits cannot ask for terabytes."""
    shapes = {name: _shapes(path / shard_name(name), name) for name in ("backbone", "text")}
    blocks = {key.split(".")[1] for key in shapes["backbone"] if key.startswith("blocks.")}
    numbers, largest = config.backbone, max((n for shape in shapes["backbone"].values() for n in shape), default=0)
    if numbers["layers"] != len(blocks):
        raise CheckpointError(f"{path}: the config says {numbers['layers']} layers, the shard has {len(blocks)}")
    for name in ("width", "heads", "kv_heads", "head_dim", "hidden", "experts", "experts_hidden"):
        if numbers.get(name, 0) > largest:
            raise CheckpointError(f"{path}: the config says {name} {numbers[name]}, no tensor is larger than {largest}")
    table = shapes["text"].get("embedding.weight")
    if table != (config.text["vocab"], numbers["width"]):
        raise CheckpointError(f"{path}: the config says {config.text['vocab']} rows of text, the shard has {table}")


def _shapes(file: Path, name: str) -> dict[str, tuple[int, ...]]:
    """Shapes by name of the tensors in a shard; reads its header alone."""
    with _readable(file, name), safe_open(file, "pt") as shard:
        return {key: tuple(shard.get_slice(key).get_shape()) for key in shard.keys()}  # noqa: SIM118


@contextmanager
def _readable(file: Path, name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{name}: shard {file.name} is missing in {file.parent}") from None
    except (SafetensorError, OSError):
        raise CheckpointError(f"{name}: shard {file.name} is damaged; copy or write it again") from None


def _installed(config: BuildConfig, plugins: Registry, *, drop: bool) -> BuildConfig:
    """The config without components whose plugin is not there; an error unless ``drop``."""
    kept: dict[str, list[Mapping[str, Any]]] = {"encoders": [], "decoders": []}
    for kind, find in (("encoders", plugins.encoder), ("decoders", plugins.codec)):
        for entry in getattr(config, kind):
            named = isinstance(entry, Mapping) and _ID.fullmatch(str(entry.get("id")))
            if not named:
                raise CheckpointError(f"config.json: {kind}: expected an id such as 'plugin/name', got {entry!r:.80}")
            try:
                find(entry["id"])
            except (UnknownModalityError, PluginError) as error:
                if drop:
                    continue
                plugin = named[1]
                version = str(config.versions.get(plugin, ""))
                pin = f"=={version}" if _VERSION.fullmatch(version) else ""
                raise MissingPluginError(
                    f"checkpoint: needs {entry['id']!r}, which no installed plugin offers ({error}). "
                    f"Try: pip install anyany-{plugin}{pin}, or load(..., missing='drop')"
                ) from None
            kept[kind].append(entry)
    return BuildConfig(
        backbone=config.backbone, text=config.text, versions=config.versions, origin=config.origin,
        origin_files=config.origin_files, encoders=tuple(kept["encoders"]), decoders=tuple(kept["decoders"]),
    )  # fmt: skip


def _fill(component: nn.Module, file: Path, name: str) -> None:
    """Load a shard strictly: every key, every shape, every kind of number."""
    with _readable(file, name):
        tensors = load_file(file)
    own = component.state_dict()
    for key in sorted(own.keys() | tensors.keys()):
        if key not in tensors:
            raise CheckpointError(f"{name}: {file.name} lacks the tensor {key!r}")
        if key not in own:
            raise CheckpointError(f"{name}: {file.name} has the tensor {key!r}, which the component does not")
        if own[key].shape != tensors[key].shape:
            raise CheckpointError(
                f"{name}: {key!r} has shape {tuple(tensors[key].shape)}, the config says {tuple(own[key].shape)}"
            )
        if own[key].is_floating_point() != tensors[key].is_floating_point():
            raise CheckpointError(f"{name}: {key!r} is {tensors[key].dtype}, expected {own[key].dtype}")
        tensors[key] = tensors[key].to(own[key].dtype)
    component.load_state_dict(tensors)


def shard_name(component: str) -> str:
    """File of a component: ``head/image/fsq`` -> ``head-image-fsq.safetensors``."""
    return component.replace("/", "-") + ".safetensors"


def read_text(path: Path) -> str:
    """A text of a checkpoint.

    Raises:
        CheckpointError: The file is missing or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{path.name}: expected in {path.parent}, not found; is it a checkpoint?") from None
    except (ValueError, OSError):
        raise CheckpointError(f"{path}: is not readable text; copy or write the checkpoint again") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint.

    Raises:
        CheckpointError: The file is missing, is not JSON, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.name}: expected in {path.parent}, not found; is it a checkpoint?") from None
    except (ValueError, OSError, RecursionError):
        raise CheckpointError(f"{path}: is not readable JSON; copy or write the checkpoint again") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data
