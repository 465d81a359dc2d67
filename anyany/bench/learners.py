"""A model of ours and its peer, ready to learn the same from the same conversations: what is trained, and one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyany.bench import mixture
from anyany.bench.padded import Seeing, collate, with_lora
from anyany.importers.llama import names
from anyany.model import Model
from anyany.model.document import Document
from anyany.parts import Message
from anyany.training import optim

RANK, ALPHA, RATE, CLIP = 8, 16.0, 1e-4, 1.0


@dataclass(frozen=True)
class Learner:
    """A model, its batch, and what a step of it is.

    Attributes:
        model: Of ours, or a ``Seeing``.
        batch: As ``loss`` takes it.
        loss: Mean over the words of the answers.
        optimizer: Over all that has a gradient.
    """

    model: nn.Module
    batch: Any
    loss: Callable[[Any], Tensor]
    optimizer: torch.optim.Optimizer

    def step(self) -> float:
        """Forward, backward, clip, update; returns the loss before."""
        loss = self.loss(self.batch)
        loss.backward()
        optim.clip([p for group in self.optimizer.param_groups for p in group["params"]], CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def ours(folder: Path, conversations: Sequence[Sequence[Message]], *, lora: bool) -> Learner:
    """Our model of a Hugging Face directory, with packed conversations.

    Args:
        folder: From ``twins.write``.
        conversations: Of the batch.
        lora: An adapter at every projection of the blocks trains, and nothing else; otherwise all but the encoder.
    """
    model = mixture.model(folder)
    if lora:
        model.requires_grad_(False)
        model.adapters.add("bench", ["backbone"], rank=RANK, alpha=ALPHA)
        model.adapters.use("bench")
    else:
        model.components["encoder/bench/patches"].requires_grad_(False)

    def loss(batch: Sequence[Document]) -> Tensor:
        term = model(batch)["text"]
        return term.total / term.rows

    return Learner(model.train(), _planned(model, conversations), loss, _adamw(model))


def theirs(language: Any, planner: Model, conversations: Sequence[Sequence[Message]], *, lora: bool) -> Learner:
    """A model of transformers with the same conversations in a padded batch.

    Args:
        language: A ``LlamaForCausalLM``.
        planner: Whose documents are padded: a model of ours of the same vocabulary.
        conversations: As of ``ours``.
        lora: Likewise.
    """
    model = Seeing(with_lora(language, rank=RANK, alpha=ALPHA) if lora else language)
    model.encoder.requires_grad_(False)
    model.projector.requires_grad_(not lora)
    return Learner(model.train(), collate(_planned(planner, conversations)), model, _adamw(model))


def _planned(model: Model, conversations: Sequence[Sequence[Message]]) -> list[Document]:
    return [model.planner.plan(messages, train=True) for messages in conversations]


def _adamw(model: nn.Module) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    return optim.adamw([{"params": trained, "lr": RATE, "weight_decay": 0.0}])


def projections(learner: Learner, peer: Learner) -> list[tuple[Tensor, Tensor, list[nn.Module]]]:
    """``down`` and ``up`` of each projection of our adapter, and the layers of peft in its place, in that order."""
    adapter = learner.model.adapters["bench"]  # type: ignore[union-attr,index]
    blocks = peer.model.language.base_model.model.model.layers  # type: ignore[union-attr]
    found = []
    for name, _, down, up in adapter.matrices():
        layer, _, inner = name.removeprefix("backbone.blocks.").partition(".")
        found.append((down, up, [blocks[int(layer)].get_submodule(their) for their in names().block[inner]]))
    return found


@torch.no_grad()
def same_adapter(learner: Learner, peer: Learner) -> None:
    """Give the adapter of peft the numbers of ours; several layers in the place of one share its ``down``."""
    for down, up, layers in projections(learner, peer):
        parts = up.split([layer.out_features for layer in layers])
        for layer, part in zip(layers, parts, strict=True):
            layer.lora_A["default"].weight.copy_(down)
            layer.lora_B["default"].weight.copy_(part)
