"""Are two tensors, or two media, the same?"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyany.parts import Media
from anyany.testing.kit import fail, hold

LOOSE = 1e-3
"""Share of the largest value that float32 may lose where the same is computed in another order."""


def same(came: Tensor, wanted: Tensor, expected: str, advice: str, share: float = LOOSE) -> None:
    """Hold a tensor to another one.

    Args:
        came: What is.
        wanted: What should be; NaN stands for NaN.
        expected: The same, in words.
        advice: What to do.
        share: Largest difference, in shares of the largest value.
    """
    hold(came.shape == wanted.shape, f"{expected}: shape {tuple(wanted.shape)}", tuple(came.shape), advice)
    if wanted.dtype in (torch.int64, torch.bool):
        hold(torch.equal(came, wanted), expected, f"{int((came != wanted).sum())} other numbers", advice)
        return
    a, b = came.double(), wanted.double()
    hold(torch.equal(a.isfinite(), b.isfinite()), expected, "others that are not finite", advice)
    there = b.isfinite()
    if there.any():
        apart = float((a - b)[there].abs().max())
        most = share * max(1.0, float(b[there].abs().max()))
        hold(apart <= most, expected, f"a difference of {apart:.2g}, where {most:.2g} is rounding", advice)


def same_media(came: Any, wanted: Media, expected: str, advice: str) -> None:
    """Hold media to other media: the same class, arrays that are nearly equal, all else equal."""
    hold(type(came) is type(wanted), f"{expected}: {type(wanted).__name__}", type(came).__name__, advice)
    for name, (a, b) in _fields(came, wanted).items():
        if isinstance(b, np.ndarray) and b.dtype.kind in "fiub" and isinstance(a, np.ndarray):
            step = 1.0 if b.dtype.kind in "ui" else 0.0  # of whole numbers, rounding may change the last one
            hold(a.shape == b.shape, f"{expected}: {name} {b.shape}", a.shape, advice)
            wide = [np.nan_to_num(x.astype(np.float64)) for x in (a, b)]
            apart, most = (
                np.abs(wide[0] - wide[1]).max(initial=0.0),
                max(step, LOOSE * np.abs(wide[1]).max(initial=1.0)),
            )
            hold(bool(apart <= most), f"{expected}: {name}", f"a difference of {apart:.2g}", advice)
        elif isinstance(b, np.ndarray):
            hold(np.array_equal(a, b), f"{expected}: {name}", "others", advice)
        elif b != a:
            fail(f"{expected}: {name} {b!r:.80}", f"{a!r:.80}", advice)


def _fields(came: Any, wanted: Media) -> dict[str, tuple[Any, Any]]:
    names = [field.name for field in fields(wanted)]  # type: ignore[arg-type]
    return {name: (getattr(came, name, None), getattr(wanted, name)) for name in names}


def joined(chunks: list[Media], whole: Media) -> Media:
    """Chunks of a stream as one part: each array along the axis in which the whole is longer than the chunks."""
    if len(chunks) == 1:
        return chunks[0]
    made = {}
    for field in fields(whole):  # type: ignore[arg-type]
        pieces, target = [getattr(c, field.name) for c in chunks], getattr(whole, field.name)
        made[field.name] = pieces[0]
        if isinstance(target, np.ndarray) and all(isinstance(p, np.ndarray) for p in pieces):
            axis = next((i for i, n in enumerate(target.shape) if n != pieces[0].shape[i]), 0)
            made[field.name] = np.concatenate(pieces, axis=axis)
    return type(whole)(**made)
