"""The plugin contract: all that a manifest needs, from the standard library and pluggy alone.

A manifest imports from here and from nowhere else, so that listing the plugins of a machine stays
light. The registry itself is ``anyany.plugin.registry``.
"""

from __future__ import annotations

from anyany.plugin.components import (
    Codec,
    CodecStream,
    Coordinates,
    Encoder,
    Look,
    Plan,
    Prepared,
    QuantileCodec,
    StreamingCodec,
    Unit,
)
from anyany.plugin.evaluation import Item, Mean, Metric, Task
from anyany.plugin.hookspecs import hookimpl
from anyany.plugin.importing import ForeignEncoder, Importer, LanguageModel, Multimodal, MultimodalImporter, Names
from anyany.plugin.specs import (
    ANYANY_API,
    Capabilities,
    CodecSpec,
    Codes,
    EncoderSpec,
    ImporterSpec,
    MetricSpec,
    ModalitySpec,
    Spec,
    TaskSpec,
    Vectors,
)

__all__ = [
    "ANYANY_API",
    "Capabilities",
    "Codec",
    "CodecSpec",
    "CodecStream",
    "Codes",
    "Coordinates",
    "Encoder",
    "EncoderSpec",
    "ForeignEncoder",
    "Importer",
    "ImporterSpec",
    "Item",
    "LanguageModel",
    "Look",
    "Mean",
    "Metric",
    "MetricSpec",
    "ModalitySpec",
    "Multimodal",
    "MultimodalImporter",
    "Names",
    "Plan",
    "Prepared",
    "QuantileCodec",
    "Spec",
    "StreamingCodec",
    "Task",
    "TaskSpec",
    "Unit",
    "Vectors",
    "hookimpl",
]
