"""The decoder-only stack, its attention primitive and its cache. It never sees media."""

from anyany.backbone.builder import BackboneConfig, build
from anyany.backbone.cache import KVPool, Run
from anyany.backbone.decoder import Backbone
from anyany.backbone.ops import interval_attention

__all__ = ["Backbone", "BackboneConfig", "KVPool", "Run", "build", "interval_attention"]
