"""A model back in the Hugging Face form that it was read from: the tables of its importer, the other way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from anyany.backbone.builder import BackboneConfig
from anyany.errors import CheckpointError
from anyany.importers.foreign import Foreign, describe
from anyany.importers.places import places
from anyany.importers.tensors import INDEX, SINGLE
from anyany.model.checkpoint import TEMPLATE, read_json
from anyany.model.directory import write_directory
from anyany.model.model import Model
from anyany.plugin.records import to_json
from anyany.plugin.registry import Registry, registry

SHARD = 5 * 10**9
"""Bytes of a file, if more than one is needed."""


def save_huggingface(model: Model, path: Path, *, plugins: Registry | None = None) -> None:
    """Write ``config.json``, ``generation_config.json``, the tokenizer and safetensors; atomically.

    The config is the one that the model was read from, with the type of its weights, and so are the files that say how
    media are prepared.

    Args:
        model: It was read from a Hugging Face directory, or from a checkpoint of such a model.
        path: Directory; it must not exist, be empty, or hold such an export.
        plugins: Where importers of others come from; the machine's own by default.

    Raises:
        CheckpointError: The form cannot hold this model, or ``path`` holds something else.
    """
    if not model.origin:
        raise CheckpointError("export: the model was not read from a Hugging Face directory; save() writes any model")
    found = describe(model.origin, model.origin_files, plugins or registry())
    _check_described(model, found)
    write_directory(path, lambda folder: _write(model, found, folder), _is_export)


def _is_export(path: Path) -> bool:
    """Whether a directory may be replaced: it says that we wrote it."""
    try:
        return read_json(path / "config.json").get("exported_by") == "anyany"
    except CheckpointError:
        return False


def _check_described(model: Model, found: Foreign) -> None:
    """The origin must say what the model is: somebody may have changed either."""
    known = {encoder.id for encoder in found.encoders}
    more = [part.name for part in (*model.encoder_parts, *model.decoders) if part.name not in known]
    if more:
        holds = f"text and {', '.join(sorted(known))}" if known else "text alone"
        raise CheckpointError(
            f"export: the form of this model holds {holds}, this one {', '.join(more)}, too; use save()"
        )
    language, text = found.language, model.text
    said = BackboneConfig.from_json(language.backbone), language.vocab, language.tied, language.scale, language.softcap
    is_so = said == (model.backbone.config, text.vocab, text.tied, text.scale, text.softcap)
    usual = {p.name: p.spec.config for p in model.encoder_parts}
    parts = [(e.id, {**usual.get(e.id, {}), **e.config}, e.projector) for e in found.encoders]
    have = [(p.name, p.config, p.projector_config) for p in model.encoder_parts]
    if not is_so or to_json(parts) != to_json(have):
        raise CheckpointError(
            "export: the model is not what its origin in config.json describes; it was changed since; use save()"
        )


def _write(model: Model, found: Foreign, folder: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    state = model.state_dict()
    for key, place in places(model, found.names, found.encoders).items():
        tensors |= place.pieces(state[key].detach())
    _write_tensors(tensors, folder)
    dtype = str(model.text.embedding.weight.dtype).removeprefix("torch.")
    kept = {key: value for key, value in model.origin.items() if key not in ("torch_dtype", "dtype")}
    _write_json(folder / "config.json", {**kept, "dtype": dtype, "exported_by": "anyany"})
    for name, data in model.origin_files.items():
        _write_json(folder / name, data)
    _write_json(folder / "generation_config.json", _generation(model))
    (folder / "tokenizer.json").write_text(model.tokenizer.backend.to_str(), encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", _tokenizer(model))
    if model.tokenizer.template is not None:
        (folder / TEMPLATE).write_text(model.tokenizer.template.source, encoding="utf-8")


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
        **(model.tokenizer.template.tokens if model.tokenizer.template is not None else {}),
    }


def _write_json(file: Path, data: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
