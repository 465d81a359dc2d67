from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # plugins that live outside the core, for tests

from anyany.backbone import BackboneConfig
from anyany.model import Model, TextTokenizer, compose
from anyany.plugin.registry import Registry


@pytest.fixture
def plugins() -> Registry:
    import imu_plugin

    found = Registry.isolated()
    found.register(imu_plugin, "imu")
    return found


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train(["hello world, what is this? one two three four"] * 4, 300)


@pytest.fixture
def make_model(plugins: Registry, tokenizer: TextTokenizer) -> Callable[..., Model]:
    """Builds a tiny model with random weights; keyword arguments configure the codec."""

    def make(*, scheme: str = "time", modality: bool = True, **codec) -> Model:
        torch.manual_seed(0)
        config = BackboneConfig(width=32, layers=2, heads=4, kv_heads=2, sections=(2, 1, 1), scheme=scheme)
        model = compose(
            backbone=config,
            tokenizer=tokenizer,
            encoders=["imu/linear"] if modality else [],
            decoders=[{"id": "imu/signs", "config": codec}] if modality else [],
            plugins=plugins,
        )
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(4)  # far from uniform, so that a wrong row shows
        return model

    return make
