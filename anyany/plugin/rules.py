"""Rules that the specs of one plugin must keep; each broken rule is one sentence."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import get_args, get_type_hints

from packaging.requirements import InvalidRequirement, Requirement

from anyany.plugin.discovery import NAME
from anyany.plugin.records import to_json
from anyany.plugin.specs import (
    BuiltSpec,
    CodecSpec,
    Codes,
    EncoderSpec,
    ImporterSpec,
    MetricSpec,
    ModalitySpec,
    Spec,
    Vectors,
)
from anyany.plugin.standard import STANDARD, TEXT

_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_OBJECTIVES = get_args(get_type_hints(Vectors)["objective"])


def broken_rules(plugin: str, specs: Iterable[Spec]) -> Iterator[str]:
    """Sentences about what is wrong with the specs of a plugin; nothing when all is well.

    Args:
        plugin: Name of the plugin.
        specs: All that its hooks returned.
    """
    specs = tuple(specs)
    for spec in specs:
        if isinstance(spec, ModalitySpec):
            yield from _modality(spec)
        else:
            yield from _built(plugin, spec)
    counts = Counter((type(s).__name__, s.name if isinstance(s, ModalitySpec) else s.id) for s in specs)
    for (kind, word), count in counts.items():
        if count > 1:
            yield f"{kind} {word!r} is declared {count} times"


def _modality(spec: ModalitySpec) -> Iterator[str]:
    if spec.name in STANDARD or spec.name == TEXT:
        yield f"modality {spec.name!r} is a standard word and cannot be redefined"
    elif not NAME.fullmatch(spec.name):
        yield f"modality {spec.name!r} must be lower-case letters, digits, '-' and '_'"
    if not _TARGET.fullmatch(spec.media):
        yield f"modality {spec.name!r}: media must read 'package.module:Class', got {spec.media!r}"


def _built(plugin: str, spec: BuiltSpec) -> Iterator[str]:
    if not re.fullmatch(rf"{re.escape(plugin)}/[a-z0-9][a-z0-9._-]*", spec.id):
        yield f"id {spec.id!r} must read '{plugin}/<name>', in lower case"
    if isinstance(spec, EncoderSpec | CodecSpec) and spec.modality == TEXT:
        yield f"{spec.id}: the modality 'text' belongs to the core"
    if isinstance(spec, MetricSpec):
        for word in (spec.modality, spec.against or TEXT):
            if not NAME.fullmatch(word):
                yield f"{spec.id}: modality {word!r} must be a word for a kind of media, or 'text'"
    if isinstance(spec, ImporterSpec) and not (spec.model_types and all(isinstance(t, str) for t in spec.model_types)):
        yield f"{spec.id}: model_types must name at least one, such as ('llama',), got {spec.model_types!r}"
    if not _TARGET.fullmatch(spec.factory):
        yield f"{spec.id}: factory must read 'package.module:callable', got {spec.factory!r}"
    try:
        json.dumps(to_json(spec.config))
    except (TypeError, ValueError):
        yield f"{spec.id}: config must be plain JSON, because checkpoints store it"
    for requirement in spec.requires:
        try:
            Requirement(requirement)
        except InvalidRequirement:
            yield f"{spec.id}: {requirement!r} is not a requirement such as 'package>=1.2'"
    if isinstance(spec, CodecSpec):
        yield from _latents(spec)


def _latents(spec: CodecSpec) -> Iterator[str]:
    match spec.latents:
        case Codes(vocab=vocab, books=books):
            if vocab < 2 or books < 1:
                yield f"{spec.id}: latents need vocab >= 2 and books >= 1, got {vocab} and {books}"
        case Vectors(dim=dim, objective=objective):
            if dim < 1:
                yield f"{spec.id}: latents need dim >= 1, got {dim}"
            if objective not in _OBJECTIVES:
                yield f"{spec.id}: objective must be one of {', '.join(_OBJECTIVES)}, got {objective!r}"
        case other:
            yield f"{spec.id}: latents must be Codes or Vectors, got {type(other).__name__}"
