"""A judge as a metric: a reply in one modality against a reference in another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anyany.errors import DataError
from anyany.eval import judges
from anyany.eval.scores import share
from anyany.mini.words import NUMBERS
from anyany.parts import Audio

Heard = tuple[Tensor, frozenset[int]]
"""A sound as the judge takes it ``(1, 1, bands, moments)``, and the digits that would be right."""


class SpokenDigit:
    """Share of sounds in which the judge hears the digit that the reference names."""

    def measure(self, answer: Audio, references: Sequence[str], prompt: Sequence[object]) -> Heard:
        """What the judge will hear.

        Raises:
            DataError: A reference is not the word of a digit.
        """
        if strangers := [r for r in references if r not in NUMBERS[:10]]:
            raise DataError(f"spoken-digit: expected the word of a digit such as 'four', got {strangers[0]!r:.40}")
        return judges.spoken([answer]), frozenset(NUMBERS.index(r) for r in references)

    def total(self, measured: Sequence[Heard]) -> float:
        """All are judged at once."""
        judge, _ = judges.judge("spoken")
        verdicts = judge.digits(torch.cat([sound for sound, _ in measured]))
        return share([verdict in digits for verdict, (_, digits) in zip(verdicts, measured, strict=True)])
