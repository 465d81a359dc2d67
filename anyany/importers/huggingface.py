"""A Hugging Face directory -> a model of ours that speaks text; encoders and decoders are composed onto it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from anyany.backbone.blocks import Attention
from anyany.errors import CheckpointError
from anyany.importers.llama import BLOCK, BUFFERS, TOP, backbone_config, number
from anyany.importers.tensors import Tensors, copy_into
from anyany.model.build import BuildConfig, build
from anyany.model.checkpoint import read_json
from anyany.model.model import Model
from anyany.model.tokenizer import Marks, TextTokenizer

_USUAL = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}
"""Sampling values that a ``generation_config.json`` stands for where it is silent; its other keys are not used."""

Sources = dict[str, tuple[int, ...]]
"""Their tensors that make up one of ours, in order, each with the shape that it must have."""


def load_huggingface(folder: Path, *, dtype: torch.dtype | None = None) -> Model:
    """Read a language model: Llama, Mistral, Qwen2 or Qwen3.

    The model has no role marks: a prompt is plain text, and the reply carries on from it.

    Args:
        folder: ``config.json``, ``tokenizer.json``, safetensors; ``generation_config.json`` where there is one.
        dtype: Of the weights; ``None`` keeps that of the file.

    Raises:
        CheckpointError: A file, key or tensor is missing, surplus, of another shape, or of a kind not known here.
        LayoutError: The head width is odd.
    """
    config = read_json(folder / "config.json")
    told = folder / "generation_config.json"
    generation = read_json(told) if told.exists() else {}
    backbone, vocab = backbone_config(config), number(config, "vocab_size")
    tokenizer = _tokenizer(folder, vocab, _stops(config, generation, vocab))
    tied = bool(config.get("tie_word_embeddings", False))
    described = BuildConfig(
        backbone=backbone.to_json(), text={"vocab": vocab, "tied": tied, "marks": tokenizer.to_json()}
    )
    with torch.device("meta"):  # shapes only: the weights come from the file
        model = build(described, tokenizer, generation={"text": _sampling(generation)})
    with Tensors(folder) as tensors:
        _fill(model, tensors, dtype)
    return model.eval()


def _fill(model: Model, tensors: Tensors, dtype: torch.dtype | None) -> None:
    """Check every name and shape, then copy each tensor once."""
    wanted = {key: _sources(model, key, tuple(own.shape)) for key, own in model.state_dict().items()}
    shapes = {name: shape for sources in wanted.values() for name, shape in sources.items()}
    surplus = {name for name in tensors.names - shapes.keys() if not name.endswith(BUFFERS)}
    if model.text.tied:
        surplus -= _repeated(tensors)
    for name in sorted(shapes.keys() | surplus):
        if name not in tensors.names:
            raise CheckpointError(f"checkpoint: lacks the tensor {name!r} of shape {shapes[name]}")
        found = tensors.shape(name)
        if name in surplus:
            raise CheckpointError(
                f"checkpoint: has the tensor {name!r} of shape {found}, which config.json has no use for"
            )
        if found != shapes[name]:
            raise CheckpointError(f"checkpoint: {name!r} has shape {found}, config.json says {shapes[name]}")
        if not tensors[name].is_floating_point():
            raise CheckpointError(f"checkpoint: {name!r} is {tensors[name].dtype}, expected floating numbers")
    dtype = dtype or tensors["model.embed_tokens.weight"].dtype
    state = {}
    for key, sources in wanted.items():
        parts = [tensors[name] for name in sources]
        state[key] = torch.empty(sum(len(p) for p in parts), *parts[0].shape[1:], dtype=dtype)
        copy_into(state[key], parts)
    model.load_state_dict(state, assign=True)


def _sources(model: Model, key: str, shape: tuple[int, ...]) -> Sources:
    """What fills ``components.<ours>.<weight or bias>``."""
    module, _, kind = key.removeprefix("components.").rpartition(".")
    if module in TOP:
        return {f"{name}.{kind}": shape for name in TOP[module]}
    layer, _, inner = module.removeprefix("backbone.blocks.").partition(".")
    names = [f"model.layers.{layer}.{name}.{kind}" for name in BLOCK[inner]]
    rows = [shape[0] // len(names)] * len(names)
    if inner == "mixer.qkv":
        mixer: Attention = model.backbone.blocks[int(layer)].mixer
        rows = [heads * mixer.head_dim for heads in (mixer.heads, mixer.kv_heads, mixer.kv_heads)]
    return {name: (n, *shape[1:]) for name, n in zip(names, rows, strict=True)}


def _repeated(tensors: Tensors) -> set[str]:
    """The output matrix of a tied model, where the file repeats it."""
    names = ("lm_head.weight", "model.embed_tokens.weight")
    same = tensors.names.issuperset(names) and torch.equal(*(tensors[name] for name in names))
    return {names[0]} if same else set()


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


def _stops(config: Mapping[str, Any], generation: Mapping[str, Any], vocab: int) -> tuple[int, ...]:
    """Tokens that end a reply; the generation config comes first."""
    given = next((c["eos_token_id"] for c in (generation, config) if c.get("eos_token_id") is not None), ())
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
