"""Which importer reads a ``model_type``: those of the core, and those of installed plugins."""

from __future__ import annotations

import difflib
from typing import Any

from anyany.errors import AmbiguousComponentError, CheckpointError, PluginError
from anyany.importers.config import Config
from anyany.plugin import Importer, ImporterSpec, MultimodalImporter
from anyany.plugin.registry import Registry


def _spec(model_type: str, module: str, factory: str) -> ImporterSpec:
    return ImporterSpec(id=model_type, model_types=(model_type,), factory=f"anyany.importers.{module}:{factory}")


IMPORTERS = (
    _spec("gpt2", "gpt2", "gpt2"),
    _spec("llama", "llama", "llama"),
    _spec("mistral", "llama", "mistral"),
    _spec("qwen2", "llama", "qwen2"),
    _spec("qwen3", "llama", "qwen3"),
    _spec("gemma2", "gemma", "gemma2"),
    _spec("gemma3_text", "gemma", "gemma3"),
    _spec("phi3", "phi3", "phi3"),
    _spec("olmo2", "olmo2", "olmo2"),
    _spec("smollm3", "smollm3", "smollm3"),
    _spec("mixtral", "mixtral", "mixtral"),
    _spec("qwen3_moe", "mixtral", "qwen3_moe"),
)
"""Of the core. Their ids have no slash, so that none of a plugin can be mistaken for them."""


def importer_of(config: Config, plugins: Registry) -> Importer | MultimodalImporter:
    """The importer of a ``config.json``.

    Args:
        config: With a ``model_type``.
        plugins: Where importers of others come from.

    Raises:
        CheckpointError: No importer knows the type; or the model brings code of its own, which is not run.
        AmbiguousComponentError: Several importers claim the type.
        PluginError: An importer cannot be built.
    """
    kind: Any = config.get("model_type")
    specs = [*IMPORTERS, *plugins.importers]
    fitting = [spec for spec in specs if kind in spec.model_types]
    if not fitting:
        known = [each for spec in specs for each in spec.model_types]
        near = difflib.get_close_matches(str(kind), known, 3)
        hint = f"the nearest are {', '.join(near)}; " if near else ""
        raise CheckpointError(f"config.json: model_type {kind!r} is not known; {hint}known are {', '.join(known)}")
    if len(fitting) > 1:
        raise AmbiguousComponentError(
            f"config.json: model_type {kind!r} is claimed by {', '.join(spec.id for spec in fitting)}; "
            "set ANYANY_BLOCK to the plugin of one of them, or uninstall it"
        )
    if config.get("auto_map"):
        raise CheckpointError(
            "config.json: auto_map names code that comes with the model, and such code is not run; "
            f"if the model is a plain {kind!r}, remove the key"
        )
    made = plugins.build(fitting[0])
    if not isinstance(made, Importer | MultimodalImporter):
        raise PluginError(
            f"{fitting[0].id}: its factory must return an Importer or a MultimodalImporter, got {type(made).__name__}"
        )
    return made
