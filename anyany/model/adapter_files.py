"""Adapters on disk, in the form of PEFT: ``adapter_config.json`` and ``adapter_model.safetensors``.

Tensors are named as PEFT names them on our model, ``base_model.model.components.<component>.<module>.lora_A.weight``,
so that PEFT reads what we write, and we read what it writes. The digest of the base stands in the metadata of the
tensors; an adapter without one, as PEFT writes it, is held to names and shapes alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from anyany.backbone.lora import LoRA
from anyany.errors import AdapterError, CheckpointError
from anyany.model.adapters import Adapters
from anyany.model.checkpoint import read_json
from anyany.model.directory import write_directory

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model.components."
BASE = "anyany.base"
"""Key of the metadata that holds the digest of the base."""
_PLAIN = {
    "use_dora": False, "use_rslora": False, "fan_in_fan_out": False, "bias": "none", "modules_to_save": None,
    "rank_pattern": {}, "alpha_pattern": {}, "lora_bias": False,
}  # fmt: skip
"""What LoRA with frills says in its configuration, and what it must say here."""


def save_adapter(adapters: Adapters, name: str, path: Path) -> None:
    """Write an adapter; what was there is replaced once the new one is whole.

    Raises:
        AdapterError: There is no such adapter, or it is merged.
        CheckpointError: ``path`` holds something else, or cannot be written.
    """
    adapter = adapters[name]
    tensors: dict[str, Tensor] = {}
    for layer, _, down, up in adapter.matrices():
        tensors[f"{PREFIX}{layer}.lora_A.weight"] = down.detach().cpu().contiguous()
        tensors[f"{PREFIX}{layer}.lora_B.weight"] = up.detach().cpu().contiguous()
    config = {
        "peft_type": "LORA", "task_type": None, "base_model_name_or_path": None, "inference_mode": True,
        "r": adapter.rank, "lora_alpha": adapter.alpha, "lora_dropout": 0.0,
        "target_modules": [f"components.{layer}" for layer in adapter.layers], **_PLAIN,
    }  # fmt: skip
    base = adapters.digest(adapter.layers)

    def write(folder: Path) -> None:
        save_file(tensors, folder / TENSORS, {BASE: base})
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    write_directory(path, write, lambda folder: (folder / CONFIG).is_file())


def load_adapter(adapters: Adapters, name: str, path: Path) -> LoRA:
    """Read an adapter of ours, or of PEFT over a model of ours.

    Raises:
        AdapterError: It belongs to another base, touches what the model has not, is no plain LoRA, or is damaged.
    """
    config, (tensors, metadata) = _config(path), _tensors(path)
    pairs = _pairs(path, tensors)
    layers = _layers(path, adapters, pairs)
    if odd := [layer for layer, pair in pairs.items() if "A" in pair and pair["A"].shape[0] != config["r"]]:
        got = tuple(pairs[odd[0]]["A"].shape)
        raise AdapterError(f"{path}: lora_A of {odd[0]}: expected {config['r']} rows, as r says, got {got}")
    base = metadata.get(BASE)
    if base is not None and base != adapters.digest(layers):
        raise AdapterError(f"{path}: the adapter was trained on other weights; load the model that it was trained on")
    adapter = LoRA(layers, rank=config["r"], alpha=float(config["lora_alpha"]))
    with torch.no_grad():
        for layer, _, down, up in adapter.matrices():
            for kind, own in (("A", down), ("B", up)):
                given = pairs[layer].get(kind)
                if given is None or given.shape != own.shape:
                    got = "nothing" if given is None else tuple(given.shape)
                    raise AdapterError(f"{path}: lora_{kind} of {layer}: expected {tuple(own.shape)}, got {got}")
                own.copy_(given)
    return adapters.put(name, adapter)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path / CONFIG)
    except CheckpointError as error:
        hint = f"; did you mean {path / 'adapter'}?" if (path / "adapter" / CONFIG).is_file() else ""
        raise AdapterError(f"adapter: {error}{hint}") from None
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{path}: expected an adapter of the kind LORA, got {config.get('peft_type')!r:.40}")
    for key, plain in _PLAIN.items():
        if (config.get(key) or plain) != plain:
            raise AdapterError(f"{path}: {key} = {config[key]!r:.40} is not plain LoRA; merge it with PEFT first")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise AdapterError(f"{path}: expected numbers r >= 1 and lora_alpha, got {rank!r:.40} and {alpha!r:.40}")
    return config


def _tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    try:
        with safe_open(path / TENSORS, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise AdapterError(f"{path}: has no {TENSORS}; other forms are not read, convert it to safetensors") from None
    except (SafetensorError, OSError):
        raise AdapterError(f"{path}: {TENSORS} is damaged; copy or write it again") from None


def _pairs(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """``A`` and ``B`` by ``<component>.<module>``."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        layer, _, kind = key.removeprefix(PREFIX).rpartition(".lora_")
        if not key.startswith(PREFIX) or kind not in ("A.weight", "B.weight"):
            raise AdapterError(f"{path}: has the tensor {key!r:.100}, which is not of an adapter of one of our models")
        pairs.setdefault(layer, {})[kind[0]] = tensor
    return pairs


def _layers(path: Path, adapters: Adapters, pairs: Mapping[str, Any]) -> dict[str, nn.Linear]:
    if lacking := [layer for layer in pairs if layer not in adapters.layers]:
        raise AdapterError(f"{path}: touches {lacking[0]!r:.100}, a projection that the model does not have")
    if not pairs:
        raise AdapterError(f"{path}: {TENSORS} is empty; write the adapter again")
    return {layer: adapters.layers[layer] for layer in pairs}
