"""Gemma 3 (arXiv 2503.19786): a SigLIP tower whose rows are averaged, and see each other both ways in the sequence.

The language model inside is read by another importer. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from anyany.errors import CheckpointError
from anyany.plugin import ForeignEncoder, Multimodal, MultimodalImporter, Names
from anyany.plugin.reading import Config, flag, mapping, number, only
from anyany_image import towers

USUAL: Mapping[str, Any] = {
    "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "sliding_window": 4096,
}  # fmt: skip
"""What published files leave out of ``text_config``, because it is as usual in transformers."""


def importer() -> MultimodalImporter:
    """``gemma3``."""
    return MultimodalImporter(describe=describe, files=(towers.PREPROCESSOR, towers.PROCESSOR))


def describe(config: Config, files: Mapping[str, Config]) -> Multimodal:
    """What a Gemma 3 is made of."""
    text = {"model_type": "gemma3_text", **USUAL, **mapping(config, "text_config")}
    only(text, "config.json: text_config", final_logit_softcapping=(None,))  # not heeded there in a model that sees
    text["tie_word_embeddings"] = flag(config, "tie_word_embeddings", True)
    given = {"model_type": "siglip_vision_model", "vision_use_head": False, **mapping(config, "vision_config")}
    tower = towers.siglip(given, files, resample=2)
    rows, begin = number(config, "mm_tokens_per_image", 256), number(config, "boi_token_index", 255999)
    _check_window(text, rows)
    encoder = ForeignEncoder(
        id="image/vit",
        config={**tower, "layers": [], "keep_class": False, "two_way": True},
        names=towers.names("vision_tower."),
        projector={
            "kind": "average", "factor": _factor(tower["size"] // tower["patch"], rows), "norm": "rms_plus_one",
            "eps": tower["eps"], "bias": False, "marks": False,
        },
        projector_names=Names(
            top={
                "norm": "multi_modal_projector.mm_soft_emb_norm",
                "outer.weight": "multi_modal_projector.mm_input_projection_weight",
            },
            transposed=frozenset({"outer.weight"}),
        ),
        token=begin,
        before=("\n\n", begin),  # as the processor of transformers writes it
        after=(number(config, "eoi_token_index", 256000), "\n\n"),
    )  # fmt: skip
    return Multimodal(text=text, text_base="language_model.", encoders=(encoder,), renamed=towers.RENAMED)


def _factor(side: int, rows: int) -> int:
    """How many rows of the tower a side are averaged."""
    wanted = math.isqrt(rows)
    if wanted**2 != rows or side % wanted:
        raise CheckpointError(
            f"config.json: mm_tokens_per_image must be the square of a divisor of {side} patches a side, got {rows}"
        )
    return side // wanted


def _check_window(text: Config, rows: int) -> None:
    """In a layer with a window, rows of a picture see all of it there, and here as far back as the window goes."""
    window = number(text, "sliding_window", where="config.json: text_config")
    if window < rows:
        raise CheckpointError(
            f"config.json: text_config: sliding_window must be at least the {rows} rows of a picture "
            f"(mm_tokens_per_image), got {window}"
        )
