"""The head that a kind of latents calls for."""

from __future__ import annotations

from typing import Any

from anyany.errors import PluginError
from anyany.heads.base import Head
from anyany.heads.depth import DepthHead
from anyany.heads.discrete import DiscreteHead
from anyany.heads.embedding import EmbeddingHead
from anyany.heads.flow import FlowHead, SpanFlowHead
from anyany.heads.regression import RegressionHead
from anyany.plugin.specs import Codes, Vectors


def build(latents: Codes | Vectors, width: int, **options: Any) -> Head:
    """A fresh head.

    Args:
        latents: What the codec speaks.
        width: D of the backbone.
        **options: Of the head's constructor, such as ``inner``.

    Raises:
        PluginError: The latents are of no known kind, or an option is unknown.
    """
    try:
        if isinstance(latents, Codes):
            if latents.books == 1:
                return DiscreteHead(width, latents.vocab, **options)
            return DepthHead(width, latents.vocab, latents.books, **options)
        if latents.objective == "regression":
            return RegressionHead(width, latents.dim, latents.quantiles, **options)
        kinds = {"embedding": EmbeddingHead, "flow": FlowHead, "flow-span": SpanFlowHead}
        return kinds[latents.objective](width, latents.dim, **options)
    except (TypeError, AttributeError, KeyError):
        raise PluginError(
            f"head: no head for latents {latents!r} with options {options!r}; expected Codes or Vectors, "
            "and options of that head"
        ) from None
