"""``load`` and ``compose``: how a model comes to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from anyany.backbone.builder import BackboneConfig
from anyany.errors import CheckpointError
from anyany.model import checkpoint
from anyany.model.build import BuildConfig, build
from anyany.model.model import Model
from anyany.model.tokenizer import TextTokenizer
from anyany.plugin.registry import Registry


def load(
    path: str | Path = "mini", *, missing: str = "error", device: str | torch.device = "auto",
    dtype: torch.dtype | None = None, plugins: Registry | None = None,
) -> Model:  # fmt: skip
    """Load a model.

    Args:
        path: ``mini``, which ships with the package; one of our checkpoints; or a Hugging Face
            directory of a family that an importer knows.
        missing: ``drop`` leaves out components whose plugin is not installed.
        device: ``auto`` takes a GPU where there is one.
        dtype: Type of the weights; ``None`` is float32 for our checkpoints, the file's own otherwise.
        plugins: Where components come from; the machine's own by default.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        MissingPluginError: A component's plugin is not installed.
    """
    folder = Path(__file__).parent.parent / "mini" / "weights" if str(path) == "mini" else Path(path)
    if not folder.is_dir():
        raise CheckpointError(f"load: expected a directory, 'mini', or a checkpoint; nothing at {path}")
    if _is_ours(folder):
        model = checkpoint.load(folder, missing=missing, plugins=plugins)
    else:
        from anyany.importers.huggingface import load_huggingface

        model = load_huggingface(folder, dtype=dtype)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device=device, dtype=dtype)


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
        encoders: Ids, or mappings with ``id``, ``config`` and ``layers``.
        decoders: Ids, or mappings with ``id``, ``config`` and ``head``.
        plugins: Where components come from; the machine's own by default.

    Raises:
        UnknownModalityError: No installed plugin offers an id.
        AmbiguousComponentError: A modality was named that several components serve.
    """
    described = {
        "encoders": tuple({"id": e} if isinstance(e, str) else e for e in encoders),
        "decoders": tuple({"id": d} if isinstance(d, str) else d for d in decoders),
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
    config = BuildConfig(backbone=described_base.backbone, text=described_base.text, **described)  # type: ignore[arg-type]
    model = build(config, base.tokenizer, plugins=plugins, generation=base.generation)
    for name in ("backbone", "text"):
        model.components[name].load_state_dict(base.components[name].state_dict())
    return model.eval()
