"""Retrieval: does a query find what belongs to it, among what does not?

Shapes: Q queries, G items of a gallery, N pairs, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from anyany.errors import RequestError

Array = npt.NDArray[np.floating]


def recall_at(k: int, similar: Array, right: Sequence[int] | npt.NDArray[np.integer]) -> float:
    """R@k: share of queries whose item is among the ``k`` most similar.

    What is as similar as the right item stands before it, so that vectors that are all alike find nothing.

    Args:
        k: How many are looked at.
        similar: ``(Q, G)``: cosines, or negative distances.
        right: The item of each query, ``(Q,)``.

    Raises:
        RequestError: ``k`` is not from 1 to G, there is no query, or a similarity is no number.
    """
    queries, items = similar.shape
    if queries == 0 or not 1 <= k <= items:
        raise RequestError(f"retrieval: expected k from 1 to {items} and at least one query, got {k} and {queries}")
    if not np.isfinite(similar).all():
        raise RequestError("retrieval: expected finite similarities, got NaN or infinity; look at the vectors")
    own = similar[np.arange(queries), np.asarray(right)][:, None]
    before = (similar >= own).sum(axis=1) - 1  # itself is not before itself
    return float((before < k).mean())


def r_precision(k: int, queries: Array, gallery: Array, *, pool: int = 32, seed: int = 0) -> float:
    """R-precision (Guo et al. 2022, CVPR): R@k of pairs by distance, each among ``pool - 1`` others drawn by chance.

    Pairs are dealt into pools of ``pool``; those left over are in none, as in the papers that report it.

    Args:
        k: How many are looked at.
        queries: ``(N, D)``.
        gallery: ``(N, D)``; row i belongs to query i.
        pool: Items of a pool.
        seed: Of the dealing.

    Raises:
        RequestError: There are fewer pairs than a pool has, or ``k`` is not from 1 to ``pool``.
    """
    if len(queries) != len(gallery) or len(queries) < pool:
        raise RequestError(f"retrieval: expected at least {pool} pairs, got {len(queries)} and {len(gallery)} vectors")
    order = np.random.default_rng(seed).permutation(len(queries))
    shares = []
    for start in range(0, len(order) - pool + 1, pool):
        chosen = order[start : start + pool]
        apart = np.linalg.norm(queries[chosen][:, None] - gallery[chosen][None], axis=-1)
        shares.append(recall_at(k, -apart, np.arange(pool)))
    return float(np.mean(shares))
