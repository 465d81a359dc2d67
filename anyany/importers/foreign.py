"""A foreign model in our words: its language model, and the encoders before it, whoever describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anyany.errors import CheckpointError
from anyany.importers.config import Config
from anyany.importers.known import importer_of
from anyany.plugin import ForeignEncoder, Importer, LanguageModel, MultimodalImporter, Names
from anyany.plugin.registry import Registry


@dataclass(frozen=True)
class Foreign:
    """What a directory holds.

    Attributes:
        language: Numbers of the backbone and the text head.
        names: Of their tensors.
        config: Of the language model.
        encoders: With the names of their tensors.
        renamed: Beginnings of names in older and newer files -> as the tables have them.
    """

    language: LanguageModel
    names: Names
    config: Config
    encoders: tuple[ForeignEncoder, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def parts(self) -> tuple[dict[str, Any], ...]:
        """Entries of ``BuildConfig.encoders``."""
        return tuple(
            {
                "id": e.id, "config": dict(e.config), "projector": dict(e.projector),
                "stand": {"token": e.token, "before": list(e.before), "after": list(e.after)},
            }
            for e in self.encoders
        )  # fmt: skip


def describe(config: Config, files: Mapping[str, Config], plugins: Registry) -> Foreign:
    """Have a ``config.json`` described by the importer that knows it.

    Args:
        config: With a ``model_type``.
        files: The other JSON files that the importer reads, by name; see ``files_of``.
        plugins: Where importers of others come from.

    Raises:
        CheckpointError: A value is not known here.
        AmbiguousComponentError: Several importers claim the type.
    """
    importer = importer_of(config, plugins)
    if isinstance(importer, Importer):
        return Foreign(importer.describe(config), importer.names, config)
    found = importer.describe(config, files)
    inner = importer_of(found.text, plugins)
    if not isinstance(inner, Importer):
        raise CheckpointError(
            "config.json: the language model inside must be one that speaks text alone, "
            f"got {found.text['model_type']!r}"
        )
    names = inner.names.below(found.text_base)
    return Foreign(inner.describe(found.text), names, found.text, found.encoders, found.renamed)


def files_of(config: Config, plugins: Registry) -> tuple[str, ...]:
    """Names of the JSON files beside ``config.json`` that its importer reads."""
    importer = importer_of(config, plugins)
    return importer.files if isinstance(importer, MultimodalImporter) else ()
