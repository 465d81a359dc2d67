"""LLaVA-1.5 (arXiv 2310.03744): a CLIP tower and an MLP before a language model that another importer reads.

Rows of a picture stand in the place of the ``<image>`` token, without marks around them. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyany.errors import CheckpointError
from anyany.plugin import ForeignEncoder, Multimodal, MultimodalImporter, Names
from anyany.plugin.reading import Config, flag, mapping, number, only
from anyany_image import towers

USUAL: Mapping[str, Mapping[str, Any]] = {
    "llama": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "mistral": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "sliding_window": 4096,
    },
}  # fmt: skip
"""What published files leave out of ``text_config``, because it is as usual in transformers."""


def importer() -> MultimodalImporter:
    """``llava``."""
    return MultimodalImporter(describe=describe, files=(towers.PREPROCESSOR, towers.PROCESSOR))


def describe(config: Config, files: Mapping[str, Config]) -> Multimodal:
    """What a LLaVA is made of."""
    only(config, projector_hidden_act=("gelu",), vision_feature_select_strategy=("default", "full"))
    tower = towers.clip({"model_type": "clip_vision_model", **mapping(config, "vision_config")}, files)
    encoder = ForeignEncoder(
        id="image/vit",
        config={
            **tower,
            "layers": _layers(config, tower["depth"]),
            "keep_class": config.get("vision_feature_select_strategy") == "full",
        },
        names=towers.names("vision_tower."),
        projector={
            "kind": "mlp", "norm": False, "marks": False, "bias": flag(config, "multimodal_projector_bias", True),
        },
        projector_names=Names(
            top={"inner": "multi_modal_projector.linear_1", "outer": "multi_modal_projector.linear_2"}
        ),
        token=_token(config),
    )  # fmt: skip
    return Multimodal(text=_text(config), text_base="language_model.", encoders=(encoder,), renamed=towers.RENAMED)


def _text(config: Config) -> dict[str, Any]:
    """The config of the language model, with what published files leave out."""
    given = {"model_type": "llama", **mapping(config, "text_config")}
    tied = flag(config, "tie_word_embeddings") or flag(given, "tie_word_embeddings", where="config.json: text_config")
    return {**USUAL.get(str(given["model_type"]), {}), **given, "tie_word_embeddings": tied}


def _layers(config: Config, depth: int) -> list[int]:
    """Which layers of the tower are read."""
    given = config.get("vision_feature_layer", -2)
    layers = given if isinstance(given, list) and given else [given]
    if not all(isinstance(n, int) and not isinstance(n, bool) and -depth - 1 <= n <= depth for n in layers):
        raise CheckpointError(
            f"config.json: vision_feature_layer must be one or several numbers from {-depth - 1} to {depth}, "
            f"got {given!r}"
        )
    return layers


def _token(config: Config) -> int:
    """The ``<image>`` token: ``image_token_index``, or ``image_token_id`` as newer files may call it."""
    key = "image_token_id" if "image_token_id" in config else "image_token_index"
    return number(config, key, 32000)
