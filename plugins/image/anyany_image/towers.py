"""Vision towers of others as configurations of ``image/vit``, with the names of their tensors. No torch.

A tower is described by its part of a ``config.json`` and by the file that says how pictures are prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyany.errors import CheckpointError
from anyany.plugin import Names
from anyany.plugin.reading import Config, flag, number, only, real

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
"""The second holds the first as one of its values; transformers 5 writes the second alone."""

ACTIVATIONS = {"gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu"}
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
WHERE = "config.json: vision_config"

BLOCK = {
    "norm": ("layer_norm1",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.out_proj",),
    "ff_norm": ("layer_norm2",),
    "up": ("mlp.fc1",),
    "down": ("mlp.fc2",),
}
TOP = {
    "class_row": "embeddings.class_embedding",
    "patches": "embeddings.patch_embedding",
    "positions": "embeddings.position_embedding",
    "first_norm": "pre_layrnorm",  # so it is spelt there
    "norm": "post_layernorm",
}

RENAMED = (
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.vision_tower.", "vision_tower."),
    ("vision_tower.vision_model.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)
"""Names around a tower as transformers 4.52 and those before 5.10 wrote them -> as it writes them now."""


def names(base: str) -> Names:
    """Of the tensors of a tower whose names begin with ``base``."""
    plain = Names(top=TOP, layer="encoder.layers.{layer}.", block=BLOCK, base="", buffers=("position_ids",))
    return plain.below(base)


def clip(config: Config, files: Mapping[str, Config]) -> dict[str, Any]:
    """Configuration of a ``clip_vision_model``, without ``layers`` and ``keep_class``."""
    only(config, WHERE, model_type=("clip_vision_model",), num_channels=(3,))
    numbers = _numbers(config, {"patch_size": 32, "image_size": 224}, activation="quick_gelu", eps=1e-5)
    processing = _processing(files, numbers["size"], edge=224, mean=CLIP_MEAN, std=CLIP_STD)
    return {**numbers, "class_row": True, "patch_bias": False, "first_norm": True, "processing": processing}


def siglip(config: Config, files: Mapping[str, Config], *, resample: int = 3) -> dict[str, Any]:
    """Configuration of a ``siglip_vision_model`` without its head, without ``layers`` and ``keep_class``.

    Args:
        config: Of the tower.
        files: Of how pictures are prepared.
        resample: Where those are silent.
    """
    only(config, WHERE, model_type=("siglip_vision_model",), num_channels=(3,), vision_use_head=(False,))
    numbers = _numbers(config, {"patch_size": 16, "image_size": 224}, activation="gelu_pytorch_tanh", eps=1e-6)
    half = [0.5, 0.5, 0.5]
    processing = _processing(files, numbers["size"], edge=None, mean=half, std=half, resample=resample)
    return {**numbers, "class_row": False, "patch_bias": True, "first_norm": False, "processing": processing}


def _numbers(config: Config, usual: Mapping[str, int], *, activation: str, eps: float) -> dict[str, Any]:
    """What the families of towers name alike; the base sizes of CLIP and SigLIP stand where a config is silent."""
    usual = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, **usual}
    values = {key: number(config, key, value, where=WHERE) for key, value in usual.items()}
    if values["hidden_size"] % values["num_attention_heads"]:
        raise CheckpointError(f"{WHERE}: hidden_size must be a multiple of num_attention_heads, got {values}")
    if values["patch_size"] > values["image_size"]:
        raise CheckpointError(f"{WHERE}: patch_size must be at most image_size, got {values}")
    act = config.get("hidden_act", activation)
    if act not in ACTIVATIONS:
        raise CheckpointError(f"{WHERE}: hidden_act must be one of {', '.join(ACTIVATIONS)}, got {act!r}")
    return {
        "size": values["image_size"],
        "channels": 3,
        "patch": values["patch_size"],
        "width": values["hidden_size"],
        "depth": values["num_hidden_layers"],
        "heads": values["num_attention_heads"],
        "hidden": values["intermediate_size"],
        "activation": ACTIVATIONS[act],
        "eps": real(config, "layer_norm_eps", eps, where=WHERE),
    }


def _processing(
    files: Mapping[str, Config], size: int, *, edge: int | None, mean: list[float], std: list[float], resample: int = 3
) -> dict[str, Any]:
    """How pictures are prepared.

    Args:
        files: The JSON files that say so.
        size: Pixels a side that the tower takes.
        edge: Of the shorter side where the file is silent; ``None``: the family brings pictures to size in both
            directions and cuts nothing off.
        mean: Where the file is silent; likewise ``std``.
        std: Of each channel.
        resample: Filter.
    """
    given, where = _given(files)
    no = (None, False)
    only(given, where, do_resize=(True,), do_rescale=(True,), do_normalize=(True,), do_pad=no, do_pan_and_scan=no)
    if flag(given, "do_center_crop", edge is not None, where=where):
        crop = _side(given, "crop_size", ("height", "width"), edge or size, where)
        edge = _side(given, "size", ("shortest_edge",), edge or size, where)
    else:
        crop, edge = _side(given, "size", ("height", "width"), size, where), None
    if crop != size:
        raise CheckpointError(f"{where}: pictures of {crop} pixels a side, config.json says {size}")
    resample = given.get("resample", resample)
    if resample not in (2, 3):
        raise CheckpointError(f"{where}: resample must be 2 (bilinear) or 3 (bicubic) here, got {resample!r}")
    return {
        "edge": edge,
        "resample": resample,
        "scale": real(given, "rescale_factor", 1 / 255, where=where),
        "mean": _channels(given, "image_mean", mean, where),
        "std": _channels(given, "image_std", std, where),
    }


def _given(files: Mapping[str, Config]) -> tuple[Config, str]:
    """The values, and the file that holds them."""
    if PREPROCESSOR in files:
        return files[PREPROCESSOR], PREPROCESSOR
    if PROCESSOR in files:
        found, where = files[PROCESSOR].get("image_processor"), f"{PROCESSOR}: image_processor"
        if isinstance(found, Mapping):
            return found, where
        raise CheckpointError(f"{where} must be an object that says how pictures are prepared, got {found!r}")
    raise CheckpointError(
        f"checkpoint: expected {PREPROCESSOR} or {PROCESSOR}, which say how pictures are prepared; found neither; "
        "save the processor into the directory"
    )


def _side(given: Config, key: str, sides: tuple[str, ...], usual: int, where: str) -> int:
    """One number of pixels, which older files give as such, and newer ones by the name of a side."""
    value = given.get(key)
    if value is None or isinstance(value, int):
        return number(given, key, usual, where=where)
    if not isinstance(value, Mapping) or set(value) != set(sides) or len(set(value.values())) > 1:
        raise CheckpointError(f"{where}: {key} must be one number of pixels for {' and '.join(sides)}, got {value!r}")
    return number(value, sides[0], where=f"{where}: {key}")


def _channels(given: Config, key: str, usual: list[float], where: str) -> list[float]:
    """A number for each of three channels."""
    value = usual if given.get(key) is None else given[key]
    plain = isinstance(value, list) and len(value) == 3
    if not plain or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise CheckpointError(f"{where}: {key} must be three numbers, got {value!r}")
    if key == "image_std" and not all(v > 0 for v in value):
        raise CheckpointError(f"{where}: {key} must be three numbers above 0, got {value!r}")
    return [float(v) for v in value]
