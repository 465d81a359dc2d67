"""``load`` and ``compose``: how a model comes to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from anyany.backbone.builder import BackboneConfig
from anyany.backbone.native import prepare
from anyany.errors import CheckpointError
from anyany.model import checkpoint
from anyany.model.build import BuildConfig, build
from anyany.model.caches import Caches
from anyany.model.model import Model
from anyany.model.tokenizer import TextTokenizer
from anyany.native import Form, Unfit, declined, library, why_not
from anyany.native.weights import FORMS
from anyany.plugin.registry import Registry


def load(
    path: str | Path = "mini", *, missing: str = "error", device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = None, adapter: str | Path | None = None, weights: Form | None = None,
    plugins: Registry | None = None, caches: Caches | None = None,
) -> Model:  # fmt: skip
    """Load a model.

    Args:
        path: ``mini``, which ships with the package; one of our checkpoints; or a Hugging Face
            directory of a family that an importer knows.
        missing: ``drop`` leaves out components whose plugin is not installed.
        device: ``auto`` takes a GPU where there is one.
        dtype: Type of the weights, such as ``"bfloat16"``; ``None`` is float32 for our checkpoints, the
            file's own otherwise. A component that does not run in it (see its spec's ``can.dtypes``) keeps its own.
        adapter: Directory of an adapter, which is then in use.
        weights: ``int8`` (a scale per output) or ``int4`` (one per 32 weights): while it generates on a CPU, the
            native library reads the matrices of backbone and text from copies in small integers. The weights
            themselves stay: prompts of more than 64 rows, training and saving know nothing else.
        plugins: Where components come from; the machine's own by default.
        caches: What it keeps between requests, such as ``Caches(features=0, prefixes=0)`` for nothing.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged, or there is no such device, type or form of weights.
        NativeError: ``weights`` was given, and there is no native library, or it does not know the model.
        AdapterError: The adapter is damaged, or belongs to another base.
        MissingPluginError: A component's plugin is not installed.
    """
    dtype, device, folder = _dtype(dtype), _device(device), checkpoint_folder(path)
    if _is_ours(folder):
        model = checkpoint.load(folder, missing=missing, plugins=plugins)
    else:
        from anyany.importers.huggingface import load_huggingface

        model = load_huggingface(folder, dtype=dtype, plugins=plugins)
    model = _cast(model, dtype).to(device)
    if caches is not None:
        model.caches = caches
    if adapter is not None:
        model.load_adapter(adapter)
        model.adapters.use("default")
    if weights is not None:
        _shrink(model, weights)
    return model


def checkpoint_folder(path: str | Path) -> Path:
    """The directory of a checkpoint; ``mini`` is the one that ships with the package.

    Raises:
        CheckpointError: There is none.
    """
    if not isinstance(path, str | Path):
        raise CheckpointError(f"load: expected a path or 'mini', got {type(path).__name__}")
    folder = Path(__file__).parent.parent / "mini" / "weights" if str(path) == "mini" else Path(path)
    if not folder.is_dir():
        raise CheckpointError(
            f"load: expected the directory of a checkpoint, or 'mini'; nothing at {path}. "
            "A repository is not downloaded: fetch it, and give its directory"
        )
    return folder


def _shrink(model: Model, form: Form) -> None:
    """Have decoding read small integers."""
    if form not in FORMS:
        raise CheckpointError(f"weights: expected {' or '.join(map(repr, FORMS))}, or none, got {form!r}")
    model.backbone.weights = model.text.weights = form
    found = library()
    if found is None:
        declined("backbone", why_not(), form)
        return
    try:
        prepare(model.backbone, found)
    except Unfit as unfit:
        declined("backbone", str(unfit), form)


def _dtype(given: str | torch.dtype | None) -> torch.dtype | None:
    found = getattr(torch, given, given) if isinstance(given, str) else given
    if found is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise CheckpointError(f"dtype: expected a floating type such as 'float32' or 'bfloat16', got {given!r}")
    return found


def _device(given: str | torch.device) -> torch.device:
    if given == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=given).device
    except Exception:  # what is no device, and what this machine has not, have no common type
        raise CheckpointError(f"device: expected 'auto', 'cpu' or one that this machine has, got {given!r}") from None


def _cast(model: Model, dtype: torch.dtype | None) -> Model:
    """Weights in another type; a component that does not run in it keeps its own."""
    if dtype is None:
        return model
    name = str(dtype).removeprefix("torch.")
    parts = [(f"encoder/{e.name}", e.spec) for e in model.encoder_parts]
    parts += [(f"codec/{d.name}", d.spec) for d in model.decoders]
    kept = {key for key, spec in parts if name not in spec.can.dtypes}
    for key, component in model.components.items():
        if key not in kept:
            component.to(dtype)
    return model


def _is_ours(folder: Path) -> bool:
    import json

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise CheckpointError(f"{folder}: has no readable config.json; is it a checkpoint?") from None
    return isinstance(config, dict) and "model_type" not in config


def compose(
    *, backbone: str | Path | BackboneConfig, tokenizer: TextTokenizer | None = None,
    encoders: Sequence[str | Mapping[str, Any]] = (), decoders: Sequence[str | Mapping[str, Any]] = (),
    plugins: Registry | None = None,
) -> Model:  # fmt: skip
    """Compose a new model; whatever was not pretrained starts from fresh weights.

    Args:
        backbone: A checkpoint to take the backbone, text and tokenizer from, or a configuration.
        tokenizer: Needed with a configuration.
        encoders: Ids, or mappings with ``id``, ``config`` and ``projector``: its kind, or a mapping with ``kind`` and
            options. ``layers`` 1 and 2 are short for ``linear`` and ``mlp``.
        decoders: Ids, or mappings with ``id``, ``config`` and ``head``.
        plugins: Where components come from; the machine's own by default.

    Raises:
        CheckpointError: The backbone cannot be read, or an entry is none.
        UnknownModalityError: No installed plugin offers an id.
        AmbiguousComponentError: A modality was named that several components serve.
    """
    described = {
        "encoders": _entries("encoders", encoders, ("id", "config", "layers", "projector")),
        "decoders": _entries("decoders", decoders, ("id", "config", "head")),
    }
    if isinstance(backbone, BackboneConfig):
        if tokenizer is None:
            raise CheckpointError("compose: a backbone configuration needs tokenizer=TextTokenizer.train(texts)")
        vocab = tokenizer.vocab + tokenizer.marks.count
        text = {"vocab": vocab, "tied": True, "marks": tokenizer.to_json()}
        config = BuildConfig(backbone=backbone.to_json(), text=text, **described)  # type: ignore[arg-type]
        return build(config, tokenizer, plugins=plugins).eval()
    base = load(backbone, device="cpu", plugins=plugins)
    described_base = checkpoint.describe(base)
    config = BuildConfig(
        backbone=described_base.backbone, text=described_base.text, origin=described_base.origin,
        origin_files=described_base.origin_files, **described,  # type: ignore[arg-type]
    )  # fmt: skip
    model = build(config, base.tokenizer, plugins=plugins, generation=base.generation)
    for name in ("backbone", "text"):
        model.components[name].load_state_dict(base.components[name].state_dict())
    return model.eval()


def _entries(name: str, given: Any, keys: tuple[str, ...]) -> tuple[Mapping[str, Any], ...]:
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise CheckpointError(f"compose: {name}: expected a list of ids of components, got {given!r:.60}")
    entries = tuple({"id": entry} if isinstance(entry, str) else entry for entry in given)
    for entry in entries:
        if not (isinstance(entry, Mapping) and isinstance(entry.get("id"), str) and set(entry) <= set(keys)):
            raise CheckpointError(
                f"compose: {name}: expected an id, or a mapping with {', '.join(keys)}; got {entry!r:.80}"
            )
    return entries
