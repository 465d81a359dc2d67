"""Encoders and codecs on their own: a plugin outside ``generate``, in a program that has a model of its own.

Shapes: n rows of a part; features ``(n, width)``; latents ``(n, books)`` int64, or ``(n, dim)`` floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyany.errors import CheckpointError, MediaError, PluginError, PromptError, UnknownModalityError
from anyany.model.checkpoint import Kind, load_component
from anyany.model.compose import checkpoint_folder
from anyany.model.model import Model
from anyany.parts import Media
from anyany.plugin.components import Codec, Encoder, Prepared
from anyany.plugin.registry import Registry, registry
from anyany.plugin.specs import Codes
from anyany.sequence import declared_vs_produced

Weights = Model | str | Path


def encoder(which: str, weights: Weights | None = None, *, plugins: Registry | None = None) -> Encoder:
    """An encoder by itself: a ``torch.nn.Module``, in eval mode.

    Args:
        which: Its id, such as ``"imu/patch"``, or a modality that only one encoder serves.
        weights: A model, whose own encoder is given; ``mini`` or a checkpoint, of which this one shard is read; or
            none: a fresh encoder, which is to be trained.
        plugins: Where components come from; the machine's own by default.

    Raises:
        UnknownModalityError: There is no such encoder, or the model has none.
        AmbiguousComponentError: Several serve the modality.
        CheckpointError: The checkpoint cannot be read.
    """
    made: Encoder = _component("encoder", which, weights, plugins)
    return made


def codec(which: str, weights: Weights | None = None, *, plugins: Registry | None = None) -> Codec:
    """A codec by itself; arguments and errors as for ``encoder``."""
    made: Codec = _component("codec", which, weights, plugins)
    return made


def encode(
    component: Encoder | str, parts: Sequence[Media | Prepared], *, weights: Weights | None = None
) -> list[Tensor]:
    """Features of parts, in one pass over all of them.

    Gradients reach the weights of the encoder as in any module: train it, or freeze it.

    Args:
        component: An encoder, or its id or modality.
        parts: Media of any lengths, or what ``component.prepare`` made of them, as workers that load data do.
        weights: Of an encoder that is given by name: a model, ``mini``, or a checkpoint.

    Returns:
        ``(n, width)`` of each part.

    Raises:
        PluginError: What is given is no encoder.
        CheckpointError: It has weights, and was given by name without any.
        PromptError: ``parts`` is no list of media.
        SpanMismatchError: It makes other rows than it declared.
    """
    encoder = _given("encoder", component, weights)
    items = [p if isinstance(p, Prepared) else encoder.prepare(p) for p in _listed(parts, Media | Prepared)]
    return _split(encoder, encoder, items)


def tokenize(
    component: Codec | str, parts: Sequence[Media | Prepared], *, like: Sequence[Media | None] | None = None,
    weights: Weights | None = None,
) -> list[Tensor]:  # fmt: skip
    """Latents of parts, in one pass over all of them: codes, or vectors. No gradient.

    Args:
        component: A codec, or its id or modality.
        parts: Media of any lengths, or what ``component.prepare`` made of them.
        like: For each part the one before it, or ``None``: units, rate and skeleton carry over from it.
        weights: Of a codec that is given by name: a model, ``mini``, or a checkpoint.

    Returns:
        ``(n, books)`` int64 or ``(n, dim)`` floats of each part; ``component.latents`` tells which.

    Raises:
        AnyanyError: As for ``encode``.
    """
    codec, parts = _given("codec", component, weights), _listed(parts, Media | Prepared)
    pairs = zip(parts, _before(like, len(parts)), strict=True)
    items = [p if isinstance(p, Prepared) else codec.prepare(p, before) for p, before in pairs]
    device = next((w.device.type for w in codec.parameters()), "cpu")
    with torch.no_grad(), torch.autocast(device, enabled=False):  # as where a model learns them
        return _split(codec, codec.encode, items)


def detokenize(
    component: Codec | str, latents: Sequence[Any], *, like: Sequence[Media | None] | None = None,
    weights: Weights | None = None,
) -> list[Media]:  # fmt: skip
    """Latents back to media.

    Args:
        component: A codec, or its id or modality.
        latents: Of each part, in the form of ``tokenize``: tensors, arrays or nested lists.
        like: For each part the one before it, or ``None``.
        weights: Of a codec that is given by name: a model, ``mini``, or a checkpoint.

    Raises:
        MediaError: Latents have another form than the codec's.
        AnyanyError: As for ``encode``.
    """
    codec = _given("codec", component, weights)
    tensors = [_latents(codec, z, index) for index, z in enumerate(_listed(latents, object))]
    with torch.no_grad():
        return [codec.decode(z, before) for z, before in zip(tensors, _before(like, len(tensors)), strict=True)]


def _component(kind: Kind, which: str, weights: Weights | None, plugins: Registry | None) -> Any:
    if not isinstance(which, str):
        raise PluginError(f"{kind}: expected an id or a modality, got {type(which).__name__}")
    plugins = plugins or registry()
    if isinstance(weights, Model):
        return _of_model(kind, which, weights)
    if weights is not None:
        return load_component(checkpoint_folder(weights), kind, which, plugins)
    return plugins.build(plugins.encoder(which) if kind == "encoder" else plugins.codec(which)).eval()


def _of_model(kind: Kind, which: str, model: Model) -> nn.Module:
    held = model.encoder_parts if kind == "encoder" else model.decoders
    for part in held:
        if which in (part.spec.id, part.spec.modality):
            return model.components[f"{kind}/{part.name}"]
    ids = ", ".join(part.name for part in held) or "none"
    raise UnknownModalityError(f"model: has no {kind} for {which!r}; its {kind}s: {ids}")


def _given(kind: Kind, component: Any, weights: Weights | None) -> Any:
    """The component itself; one that is named has to come with the weights that it needs."""
    if isinstance(component, str):
        made = _component(kind, component, weights, None)
        if weights is None and any(True for _ in made.parameters()):
            raise CheckpointError(
                f"{component}: has weights, and none were given; say weights='mini', a model or a checkpoint, "
                f"or make a fresh one and train it: anyany.{kind}({component!r})"
            )
        return made
    codes = isinstance(component, Codec)  # which may have a width of its own, and is no encoder for that
    if not (codes if kind == "codec" else isinstance(component, Encoder) and not codes):
        way = "a codec gives latents: anyany.tokenize" if codes else f"make one: anyany.{kind}(id)"
        raise PluginError(f"{kind}: expected one, or its id, got {type(component).__name__}; {way}")
    if weights is not None:
        raise CheckpointError(f"weights: {type(component).__name__} has its own; give them with a name, or not at all")
    return component


def _listed(given: Any, kind: Any) -> Sequence[Any]:
    if isinstance(given, str | Media) or not isinstance(given, Sequence):
        raise PromptError(f"expected a list with one entry for each part, got {type(given).__name__}; put it into []")
    for index, item in enumerate(given):
        if not isinstance(item, kind):
            raise PromptError(f"part {index}: expected media, got {type(item).__name__}")
    return given


def _before(like: Any, count: int) -> Sequence[Any]:
    if like is None:
        return [None] * count
    if len(given := _listed(like, Media | None)) != count:
        raise PromptError(f"like: expected one entry for each of {count} parts, got {len(given)}")
    return given


def _split(component: Any, run: Any, items: Sequence[Prepared]) -> list[Tensor]:
    """Rows of each item; the component runs once."""
    if not items:
        return []
    produced, rows = run(items), [item.rows for item in items]
    declared_vs_produced(type(component).__name__, -1, sum(rows), len(produced))
    return list(produced.split(rows))


def _latents(codec: Codec, given: Any, index: int) -> Tensor:
    """Latents of one part, held to the form that the codec states, on its device."""
    form = codec.latents
    if codes := isinstance(form, Codes):
        width, wanted = form.books, f"integers (rows, {form.books}) below {form.vocab}"
    else:
        width, wanted = form.dim, f"numbers (rows, {form.dim})"
    try:
        z = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise MediaError(f"latents {index}: expected {wanted}, got {type(given).__name__}") from None
    fits = not (z.is_floating_point() or z.is_complex() or z.dtype == torch.bool) if codes else z.is_floating_point()
    if z.dim() != 2 or z.shape[1] != width or len(z) == 0 or not fits:
        raise MediaError(f"latents {index}: expected {wanted}, got {z.dtype} {tuple(z.shape)}")
    z = z.to(torch.int64) if codes else z  # small unsigned ones know no smallest
    if isinstance(form, Codes) and not (z.min() >= 0 and z.max() < form.vocab):
        raise MediaError(f"latents {index}: expected {wanted}, got {int(z.min())} to {int(z.max())}")
    device = next((w.device for w in codec.parameters()), z.device)  # type: ignore[attr-defined]
    return z.to(device)
