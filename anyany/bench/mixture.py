"""Conversations of mixed lengths with pictures between their words, and the encoder that both sides look through.

Everything is random: what a picture shows and what is said about it does not change how long a step takes.

Shapes: P patches of all pictures, W numbers of a patch, D model width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from anyany.bench.twins import prompt, words
from anyany.model import Model, compose
from anyany.model.projector import Projector
from anyany.parts import Media, Message
from anyany.plugin import EncoderSpec, ModalitySpec, Prepared, hookimpl
from anyany.plugin.registry import Registry

ANYANY_API = 1
PATCH, FEATURES = 48, 64
PICTURES, SIDES, QUESTION, ANSWER = (1, 4), (4, 11), (8, 65), (16, 97)
"""From, and below: pictures of a conversation; rows and columns of patches of one; words before
each; words of the answer.

Drawn evenly, so that a conversation has 42 to 594 rows, and padded batches of eight are full to two thirds.
"""


@dataclass(frozen=True, eq=False)
class Picture(Media):
    """Patches ``(P, W)``."""

    modality: ClassVar[str] = "picture"
    patches: np.ndarray


class Patches(nn.Module):
    """One feature row per patch: a linear map of it."""

    width = FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(PATCH, FEATURES)

    def example(self, seed: int) -> Picture:
        """A valid picture."""
        return Picture(np.random.default_rng(seed).standard_normal((16, PATCH), np.float32))

    def prepare(self, media: Media) -> Prepared:
        """The patches as they are."""
        return Prepared(arrays={"patches": media.patches}, rows=len(media.patches))  # type: ignore[attr-defined]

    def forward(self, batch: Sequence[Prepared]) -> Tensor:
        """Features ``(P, 64)``."""
        return self.map(torch.from_numpy(np.concatenate([item.arrays["patches"] for item in batch])))


class Plugin:
    """The manifest."""

    ANYANY_API = ANYANY_API

    @hookimpl
    def anyany_modalities(self) -> Iterator[ModalitySpec]:
        """Pictures."""
        yield ModalitySpec(name="picture", media="anyany.bench.mixture:Picture", axes=("patch", "number"))

    @hookimpl
    def anyany_encoders(self) -> Iterator[EncoderSpec]:
        """The encoder."""
        yield EncoderSpec(id="bench/patches", modality="picture", factory="anyany.bench.mixture:Patches")


def eyes(width: int) -> tuple[Patches, Projector]:
    """Encoder and projector before a backbone of width D; equal weights at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Patches(), Projector(FEATURES, width)


def model(folder: Path) -> Model:
    """The language model of a Hugging Face directory, with ``eyes``."""
    plugins = Registry.isolated()
    plugins.register(Plugin(), "bench")
    made = compose(backbone=folder, encoders=["bench/patches"], plugins=plugins)
    encoder, projector = eyes(made.text.width)
    made.components["encoder/bench/patches"].load_state_dict(encoder.state_dict())
    made.components["projector/bench/patches"].load_state_dict(projector.state_dict())
    return made


def conversations(count: int, *, even: bool = False) -> list[list[Message]]:
    """Words and pictures in turn, then an answer.

    Args:
        count: How many; equal ones at every call.
        even: Each as long as the mean of what it would be drawn from, so that all have the same length.
    """
    draw = np.random.default_rng(0)

    def number(low: int, high: int) -> int:
        return (low + high - 1) // 2 if even else int(draw.integers(low, high))

    def text(length: int) -> str:
        return words(prompt(length, int(draw.integers(2**31))))

    made = []
    for _ in range(count):
        parts: list[str | Media] = []
        for _ in range(number(*PICTURES)):
            patches = number(*SIDES) * number(*SIDES)
            picture = Picture(draw.standard_normal((patches, PATCH), np.float32))
            parts += [text(number(*QUESTION)), picture]
        made.append([Message("user", tuple(parts)), Message("assistant", (text(number(*ANSWER)),))])
    return made
