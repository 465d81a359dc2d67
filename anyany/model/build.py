"""A model from a description: numbers and ids in, modules out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from anyany import heads
from anyany.backbone.builder import BackboneConfig
from anyany.backbone.builder import build as build_backbone
from anyany.errors import AmbiguousComponentError, CheckpointError
from anyany.heads.text import TextHead
from anyany.model.model import DecoderPart, EncoderPart, Model
from anyany.model.projector import build_projector
from anyany.model.spelling import Stand
from anyany.model.tokenizer import TextTokenizer
from anyany.plugin.registry import Registry, registry
from anyany.plugin.specs import CodecSpec, EncoderSpec


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """What a checkpoint's ``config.json`` holds.

    Attributes:
        backbone: Of ``BackboneConfig``.
        text: ``vocab``, ``tied``, ``scale``, ``softcap`` and ``marks``.
        encoders: Each with ``id``, ``config``, ``projector`` (its kind and options) and ``stand``. Older checkpoints
            have ``layers`` in the place of ``projector``.
        decoders: Each with ``id``, ``config`` and ``head`` options.
        versions: Versions of the plugins at the time of writing.
        origin: The foreign ``config.json`` that the backbone and text were read from; empty where there is none.
        origin_files: JSON files beside it that say how media are prepared, by name.
    """

    backbone: Mapping[str, Any]
    text: Mapping[str, Any]
    encoders: tuple[Mapping[str, Any], ...] = ()
    decoders: tuple[Mapping[str, Any], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    origin_files: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the number of the format."""
        return {
            "format": 1, "backbone": dict(self.backbone), "text": dict(self.text),
            "encoders": [dict(e) for e in self.encoders], "decoders": [dict(d) for d in self.decoders],
            "versions": dict(self.versions), **({"origin": dict(self.origin)} if self.origin else {}),
            **({"origin_files": dict(self.origin_files)} if self.origin_files else {}),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BuildConfig:
        """Strict: an unknown or a missing key is an error."""
        known = {f.name for f in fields(cls)}
        unknown = set(data) - known - {"format"}
        lacking = {"backbone", "text"} - set(data)
        if unknown or lacking:
            raise CheckpointError(
                f"config.json: unknown keys {sorted(unknown)}, missing keys {sorted(lacking)}; "
                f"expected {', '.join(sorted(known))}"
            )
        values = {name: data[name] for name in known & set(data)}
        kinds = {
            "backbone": Mapping,
            "text": Mapping,
            "versions": Mapping,
            "origin": Mapping,
            "origin_files": Mapping,
            "encoders": list,
            "decoders": list,
        }
        for name, value in values.items():
            if not isinstance(value, kinds[name]):
                raise CheckpointError(f"config.json: {name} is of the wrong kind, {type(value).__name__}")
        for name in ("encoders", "decoders"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


def build(
    config: BuildConfig, tokenizer: TextTokenizer, *, plugins: Registry | None = None,
    generation: Mapping[str, Mapping[str, Any]] | None = None, card: str = "",
) -> Model:  # fmt: skip
    """Build a model with fresh weights.

    Args:
        config: Backbone, text, and which components of which plugins.
        tokenizer: With the marks of the model.
        plugins: Where components come from; the machine's own by default.
        generation: Sampling values by modality.
        card: Text of the model card.

    Raises:
        AmbiguousComponentError: Two encoders, or two codecs, are for one modality.
    """
    plugins = plugins or registry()
    backbone = build_backbone(BackboneConfig.from_json(config.backbone))
    options = {name: config.text[name] for name in ("tied", "scale", "softcap") if name in config.text}
    text = TextHead(config.text["vocab"], backbone.width, **options)
    encoders = [encoder_part(plugins, backbone.width, **entry) for entry in config.encoders]
    decoders = [decoder_part(plugins, backbone.width, **entry) for entry in config.decoders]
    _one_each("encoder", [e.spec for e in encoders])
    _one_each("decoder", [d.spec for d in decoders])
    return Model(
        backbone, text, tokenizer, encoders, decoders, generation=generation, card=card, origin=config.origin,
        origin_files=config.origin_files,
    )  # fmt: skip


def _one_each(kind: str, specs: Sequence[EncoderSpec | CodecSpec]) -> None:
    """A model sees a modality through one encoder, and draws it through one codec."""
    for spec in specs:
        rivals = [s.id for s in specs if s.modality == spec.modality]
        if len(rivals) > 1:
            raise AmbiguousComponentError(f"{kind} for {spec.modality!r}: the model has {', '.join(rivals)}; keep one")


def encoder_part(
    plugins: Registry, width: int, *, id: str, config: Mapping[str, Any] | None = None, layers: int = 2,
    projector: str | Mapping[str, Any] | None = None, stand: Mapping[str, Any] | None = None,
) -> EncoderPart:  # fmt: skip
    """An encoder with its projector, by id or modality; ``layers`` 1 and 2 are short for ``linear`` and ``mlp``."""
    spec = plugins.encoder(id)
    merged = {**spec.config, **(config or {})}
    encoder = plugins.build(spec, **merged)
    given = {"kind": "mlp" if layers > 1 else "linear"} if projector is None else projector
    options = {"kind": given} if isinstance(given, str) else dict(given)
    made = build_projector(encoder.width, width, **options)
    return EncoderPart(spec, merged, encoder, made, options, None if stand is None else Stand.from_json(stand))


def decoder_part(
    plugins: Registry, width: int, *, id: str, config: Mapping[str, Any] | None = None,
    head: Mapping[str, Any] | None = None,
) -> DecoderPart:  # fmt: skip
    """A codec with the head that its latents call for, by id or modality."""
    spec = plugins.codec(id)
    merged = {**spec.config, **(config or {})}
    codec = plugins.build(spec, **merged)
    return DecoderPart(spec, merged, codec, heads.build(codec.latents, width, **(head or {})), dict(head or {}))
