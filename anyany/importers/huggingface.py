"""A Hugging Face directory -> a model of ours: text, and the encoders that it has; more are composed onto it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from anyany.errors import CheckpointError
from anyany.importers.foreign import Foreign, describe, files_of
from anyany.importers.places import places
from anyany.importers.templates import read_template
from anyany.importers.tensors import Tensors
from anyany.model.build import BuildConfig, build
from anyany.model.checkpoint import read_json
from anyany.model.model import Model
from anyany.model.spelling import Stand
from anyany.model.tokenizer import Marks, TextTokenizer
from anyany.plugin import Names
from anyany.plugin.registry import Registry, registry

MAPPED = 1 << 26
"""Bytes behind which the file is mapped anew: until then, what was read stays in memory as a second copy."""
_USUAL = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}
"""Sampling values that a ``generation_config.json`` stands for where it is silent; its other keys are not used."""


def load_huggingface(folder: Path, *, dtype: torch.dtype | None = None, plugins: Registry | None = None) -> Model:
    """Read a model of a family that an importer knows.

    The model has no role marks: a prompt is plain text, and the reply carries on from it; messages are framed by the
    chat template that comes with it.

    Args:
        folder: ``config.json``, ``tokenizer.json``, safetensors; ``generation_config.json`` where there is one, and
            the files that say how media are prepared where it takes any.
        dtype: Of the weights; ``None`` keeps that of the file.
        plugins: Where importers of others come from; the machine's own by default.

    Raises:
        CheckpointError: A file, key or tensor is missing, surplus, of another shape, or of a kind not known here.
        AmbiguousComponentError: Several importers claim the family.
        LayoutError: The head width is odd.
    """
    plugins = plugins or registry()
    config = read_json(folder / "config.json")
    beside = {name: folder / name for name in (*files_of(config, plugins), "generation_config.json")}
    files = {name: read_json(file) for name, file in beside.items() if file.exists()}
    generation = files.pop("generation_config.json", {})
    found = describe(config, files, plugins)
    vocab = found.language.vocab
    tokenizer = _tokenizer(folder, vocab, _stops([generation, config, found.config], vocab))
    _check_stands(found, tokenizer)
    tokenizer.template = read_template(folder, several=bool(found.encoders))
    described = BuildConfig(
        backbone=found.language.backbone,
        text={
            "vocab": vocab, "tied": found.language.tied, "scale": found.language.scale,
            "softcap": found.language.softcap, "marks": tokenizer.to_json(),
        },
        encoders=found.parts,
        origin=config,
        origin_files=files,
    )  # fmt: skip
    with torch.device("meta"):  # shapes only: the weights come from the file
        model = build(described, tokenizer, plugins=plugins, generation={"text": _sampling(generation)})
    with Tensors(folder, found.names.base, found.renamed) as tensors:
        _fill(model, tensors, found, dtype)
    return model.eval()


def _check_stands(found: Foreign, tokenizer: TextTokenizer) -> None:
    """What stands for a part must be a control token: text could spell it otherwise."""
    for part in found.parts:
        for token in sorted(Stand.from_json(part["stand"]).control - tokenizer.control):
            raise CheckpointError(
                f"tokenizer.json: token {token}, which stands for a part of {part['id']}, must be a special token, "
                f"and is {tokenizer.backend.id_to_token(token)!r}"
            )


def _fill(model: Model, tensors: Tensors, found: Foreign, dtype: torch.dtype | None) -> None:
    """Check every name and shape, then copy each tensor once."""
    names = found.names
    wanted = places(model, names, found.encoders)
    shapes = {name: shape for place in wanted.values() for name, shape in place.shapes.items()}
    buffers = names.buffers + tuple(end for encoder in found.encoders for end in encoder.names.buffers)
    surplus = {name for name in tensors.names - shapes.keys() if not name.endswith(buffers)}
    if model.text.tied:
        surplus -= _repeated(tensors, names)
    for name in sorted(shapes.keys() | surplus):
        if name not in tensors.names:
            raise CheckpointError(f"checkpoint: lacks the tensor {name!r} of shape {shapes[name]}")
        there = tensors.shape(name)
        if name in surplus:
            raise CheckpointError(
                f"checkpoint: has the tensor {name!r} of shape {there}, which config.json has no use for"
            )
        if there != shapes[name]:
            raise CheckpointError(f"checkpoint: {name!r} has shape {there}, config.json says {shapes[name]}")
        if not tensors[name].is_floating_point():
            raise CheckpointError(f"checkpoint: {name!r} is {tensors[name].dtype}, expected floating numbers")
    dtype = dtype or tensors[f"{names.top['text.embedding']}.weight"].dtype
    state, copied = {}, 0
    for key, own in model.state_dict().items():
        state[key] = torch.empty(own.shape, dtype=_kept(model, key, dtype), device="cpu")
        for name, piece in wanted[key].pieces(state[key]).items():
            piece.copy_(tensors[name])  # the only copy, in its own type
        copied += state[key].nbytes
        if copied > MAPPED:
            tensors.release()
            copied = 0
    model.load_state_dict(state, assign=True)


def _kept(model: Model, key: str, dtype: torch.dtype) -> torch.dtype:
    """The type of a tensor: float32 in an encoder that does not run in ``dtype``."""
    name = str(dtype).removeprefix("torch.")
    unfit = (p for p in model.encoder_parts if name not in p.spec.can.dtypes)
    return torch.float32 if any(key.startswith(f"components.encoder/{p.name}.") for p in unfit) else dtype


def _repeated(tensors: Tensors, names: Names) -> set[str]:
    """The output matrix of a tied model, where the file repeats it."""
    both = tuple(f"{names.top[module]}.weight" for module in ("text.output", "text.embedding"))
    same = tensors.names.issuperset(both) and torch.equal(*(tensors[name] for name in both))
    return {both[0]} if same else set()


def _tokenizer(folder: Path, vocab: int, stops: tuple[int, ...]) -> TextTokenizer:
    """The tokenizer, with ``bos`` where it puts one before a text of its own accord."""
    backend = TextTokenizer.open(folder / "tokenizer.json").backend
    if backend.get_vocab_size() > vocab:
        raise CheckpointError(
            f"tokenizer.json: has {backend.get_vocab_size()} entries, config.json says vocab_size {vocab}"
        )
    plain, full = backend.encode("a", add_special_tokens=False).ids, backend.encode("a").ids
    begin = full[: len(full) - len(plain)]
    if len(begin) > 1 or begin + plain != full:
        raise CheckpointError(f"tokenizer.json: expected at most one token before a text, got {full} around {plain}")
    return TextTokenizer(backend, Marks(bos=begin[0] if begin else None, stops=stops))


def _stops(configs: Sequence[Mapping[str, Any]], vocab: int) -> tuple[int, ...]:
    """Tokens that end a reply: as the first config has it that has any."""
    given = next((c["eos_token_id"] for c in configs if c.get("eos_token_id") is not None), ())
    stops = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not stops or not all(isinstance(i, int) and 0 <= i < vocab for i in stops):
        raise CheckpointError(
            f"config.json: eos_token_id must name tokens below {vocab} that end a reply, got {given!r}"
        )
    return stops


def _sampling(generation: Mapping[str, Any]) -> dict[str, float]:
    """Sampling values of text: greedy unless the file says ``do_sample``; what it leaves out is as usual."""
    told = {name: usual if generation.get(name) is None else generation[name] for name, usual in _USUAL.items()}
    return told if generation.get("do_sample") else {**told, "temperature": 0.0}
