"""anyany: any-to-any multimodal models, where a modality is a wheel.

Importing this module imports no torch and no media library; names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyany._version import __version__

if TYPE_CHECKING:
    from anyany.model import Model, Reply, codec, compose, detokenize, encode, encoder, load, tokenize
    from anyany.parts import Audio, Image, Media, Motion, TimeSeries, Video

_HOMES = {
    "Audio": "anyany.parts",
    "Image": "anyany.parts",
    "Media": "anyany.parts",
    "Motion": "anyany.parts",
    "TimeSeries": "anyany.parts",
    "Video": "anyany.parts",
    "Model": "anyany.model",
    "Reply": "anyany.model",
    "codec": "anyany.model",
    "compose": "anyany.model",
    "detokenize": "anyany.model",
    "encode": "anyany.model",
    "encoder": "anyany.model",
    "load": "anyany.model",
    "tokenize": "anyany.model",
}

__all__ = [
    "Audio",
    "Image",
    "Media",
    "Model",
    "Motion",
    "Reply",
    "TimeSeries",
    "Video",
    "__version__",
    "codec",
    "compose",
    "detokenize",
    "encode",
    "encoder",
    "load",
    "tokenize",
]


def __getattr__(name: str) -> Any:
    """Import the home of a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'anyany' has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
