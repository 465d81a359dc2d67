"""In which order items come: pure functions of seed, epoch and step. No global generator, no state.

Anything random is counted, not drawn: item i of an epoch is a function of ``(seed, epoch, i)``, so that a
restart, another number of workers or a look at step 10,000 needs nothing replayed and nothing stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anyany.errors import RecipeError

_MASK = (1 << 64) - 1
_ROUNDS = 6


def mix(*words: int) -> int:
    """64 well-mixed bits of some integers (SplitMix64, Steele et al. 2014): the same on every machine."""
    state = 0x243F6A8885A308D3
    for word in words:
        state = (state ^ (word & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def uniform(*words: int) -> float:
    """A number in [0, 1) that depends on the integers alone."""
    return (mix(*words) >> 11) * 2.0**-53


def generator(*words: int) -> np.random.Generator:
    """A numpy generator of its own for one item: crops, noise, dropped conditions."""
    return np.random.Generator(np.random.Philox(key=mix(*words)))


def permuted(index: int, size: int, seed: int, epoch: int) -> int:
    """Place ``index`` of the permutation of ``size`` items in an epoch, in constant time and memory.

    A Feistel network over the next even power of two permutes all its numbers; numbers outside ``size`` walk
    on until they are inside (cycle walking, Black and Rogaway 2002).

    Raises:
        RecipeError: ``index`` is not below ``size``.
    """
    if not 0 <= index < size:
        raise RecipeError(f"order: expected an index from 0 to {size - 1}, got {index}")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    value = index
    while True:
        left, right = value >> half, value & low
        for turn in range(_ROUNDS):
            left, right = right, left ^ (mix(seed, epoch, turn, right) & low)
        value = left << half | right
        if value < size:
            return value


def item(position: int, size: int, seed: int) -> int:
    """Item at a position of the endless stream of epochs; every epoch holds each item once."""
    epoch, index = divmod(position, size)
    return permuted(index, size, seed, epoch)


def permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    """The whole permutation ``(size,)`` int64 of an epoch."""
    return np.fromiter((permuted(i, size, seed, epoch) for i in range(size)), np.int64, size)


def choose(weights: Mapping[str, float] | Sequence[float], seed: int, step: int) -> int:
    """Which source of a mixture the step takes, as an index in the order of the weights.

    Raises:
        RecipeError: A weight is negative or not finite, or all are 0.
    """
    values = np.asarray(list(weights.values() if isinstance(weights, Mapping) else weights), np.float64)
    if not values.size or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise RecipeError(f"mixture: expected weights >= 0 that are not all 0, got {values.tolist()}")
    edges = np.cumsum(values)
    return int(np.searchsorted(edges, uniform(seed, step) * edges[-1], side="right"))
