"""What is seen and what is done: a few numbers each, in whatever units the world has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from anyany.errors import EmptyMediaError, MediaError
from anyany.parts import Media


@dataclass(frozen=True, eq=False)
class Numbers(Media):
    """``values (n,)`` float32."""

    modality: ClassVar[str] = "numbers"
    values: np.ndarray

    def __post_init__(self) -> None:
        values = np.asarray(self.values, np.float32)
        if values.ndim != 1:
            raise MediaError(f"{self.modality}: expected values (n,), got {values.shape}")
        if not len(values):
            raise EmptyMediaError(f"{self.modality}: expected at least one number, got none")
        if not np.isfinite(values).all():
            raise MediaError(f"{self.modality}: expected finite numbers, got NaN or infinity")
        self._freeze(values=values)

    @classmethod
    def numbers(cls, media: Media, count: int) -> np.ndarray:
        """The values of what should be this kind of media, ``count`` of them.

        Raises:
            MediaError: It is of another kind, or holds another number of them.
        """
        if not isinstance(media, cls):
            raise MediaError(f"{cls.modality}: expected {cls.__name__}, got {type(media).__name__}")
        if len(media.values) != count:
            raise MediaError(f"{cls.modality}: expected {count} numbers, got {len(media.values)}; compose for as many")
        return media.values


@dataclass(frozen=True, eq=False)
class Observation(Numbers):
    """What a world shows."""

    modality: ClassVar[str] = "observation"


@dataclass(frozen=True, eq=False)
class Action(Numbers):
    """What is done to it."""

    modality: ClassVar[str] = "action"
