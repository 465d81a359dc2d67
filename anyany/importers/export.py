"""A language model back in the Hugging Face form that it was read from: the tables of its importer, the other way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from anyany.backbone.builder import BackboneConfig
from anyany.errors import CheckpointError
from anyany.importers.known import importer_of
from anyany.importers.places import places
from anyany.importers.tensors import INDEX, SINGLE
from anyany.model.checkpoint import read_json
from anyany.model.directory import write_directory
from anyany.model.model import Model
from anyany.plugin import Importer
from anyany.plugin.registry import Registry, registry

SHARD = 5 * 10**9
"""Bytes of a file, if more than one is needed."""


def save_huggingface(model: Model, path: Path, *, plugins: Registry | None = None) -> None:
    """Write ``config.json``, ``generation_config.json``, the tokenizer and safetensors; atomically.

    The config is the one that the model was read from, with the type of its weights.

    Args:
        model: It was read from a Hugging Face directory, or from a checkpoint of such a model.
        path: Directory; it must not exist, be empty, or hold such an export.
        plugins: Where importers of others come from; the machine's own by default.

    Raises:
        CheckpointError: The form cannot hold this model, or ``path`` holds something else.
    """
    if not model.origin:
        raise CheckpointError("export: the model was not read from a Hugging Face directory; save() writes any model")
    if model.encoder_parts or model.decoders:
        more = [part.name for part in (*model.encoder_parts, *model.decoders)]
        raise CheckpointError(f"export: a language model holds text alone, this one {', '.join(more)}, too; use save()")
    importer = importer_of(model.origin, plugins or registry())
    _check_described(model, importer)
    write_directory(path, lambda folder: _write(model, importer, folder), _is_export)


def _is_export(path: Path) -> bool:
    """Whether a directory may be replaced: it says that we wrote it."""
    try:
        return read_json(path / "config.json").get("exported_by") == "anyany"
    except CheckpointError:
        return False


def _check_described(model: Model, importer: Importer) -> None:
    """The origin must say what the model is: somebody may have changed either."""
    found = importer.describe(model.origin)
    said = BackboneConfig.from_json(found.backbone), found.vocab, found.tied, found.scale, found.softcap
    text = model.text
    if said != (model.backbone.config, text.vocab, text.tied, text.scale, text.softcap):
        raise CheckpointError(
            "export: the model is not what its origin in config.json describes; it was changed since; use save()"
        )


def _write(model: Model, importer: Importer, folder: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    state = model.state_dict()
    for key, place in places(model, importer.names).items():
        tensors |= place.pieces(state[key].detach())
    _write_tensors(tensors, folder)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    kept = {key: value for key, value in model.origin.items() if key not in ("torch_dtype", "dtype")}
    _write_json(folder / "config.json", {**kept, "dtype": dtype, "exported_by": "anyany"})
    _write_json(folder / "generation_config.json", _generation(model))
    (folder / "tokenizer.json").write_text(model.tokenizer.backend.to_str(), encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", _tokenizer(model))


def _write_tensors(tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """One file, or several with an index; a copy of one of them at a time is in memory."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        size += tensor.nbytes
        if size > SHARD and shards[-1]:
            shards.append([])
            size = tensor.nbytes
        shards[-1].append(name)
    count = len(shards)
    files = [SINGLE] if count == 1 else [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    for file, shard in zip(files, shards, strict=True):
        save_file({name: _alone(tensors[name]) for name in shard}, folder / file, metadata={"format": "pt"})
    if count > 1:
        where = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        total = sum(tensor.nbytes for tensor in tensors.values())
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def _alone(piece: torch.Tensor) -> torch.Tensor:
    """A copy in rows: pieces of one matrix share memory, which a file cannot."""
    return piece.cpu().clone(memory_format=torch.contiguous_format)


def _generation(model: Model) -> dict[str, Any]:
    """Sampling values in their words."""
    marks, rules = model.tokenizer.marks, dict(model.generation.get("text", {}))
    greedy = rules.get("temperature", 1.0) == 0
    if greedy:
        rules = {"repetition_penalty": rules.get("repetition_penalty", 1.0)}
    return {"bos_token_id": marks.bos, "eos_token_id": list(marks.stops), "do_sample": not greedy, **rules}


def _tokenizer(model: Model) -> dict[str, Any]:
    """Enough for ``AutoTokenizer``."""
    tokens, marks = model.tokenizer.backend, model.tokenizer.marks
    named = {"bos_token": marks.bos, "eos_token": marks.stops[0]}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{key: tokens.id_to_token(index) for key, index in named.items() if index is not None},
    }


def _write_json(file: Path, data: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
