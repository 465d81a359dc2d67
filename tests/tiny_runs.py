"""The model of runs that tests start in processes of their own, in order to kill them."""

from __future__ import annotations

import imu_plugin
import torch

from anyany.backbone import BackboneConfig
from anyany.model import Model, TextTokenizer, compose
from anyany.plugin.registry import Registry


def build() -> Model:
    """One encoder, and a codec whose head draws noise; the same each time."""
    plugins = Registry.isolated()
    plugins.register(imu_plugin, "imu")
    torch.manual_seed(0)
    return compose(
        backbone=BackboneConfig(width=16, layers=1, heads=2), tokenizer=TextTokenizer.train(["one two three"], 270),
        encoders=["imu/linear"], plugins=plugins,
        decoders=[{"id": "imu/signs", "config": {"kind": "flow", "rows": 3, "fixed": True}}],
    )  # fmt: skip
