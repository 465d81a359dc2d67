"""Does what was bound to words find what was bound to words, though the two were never paired?

A vector of a part is that with which ``task = "bind"`` trains: the mean of its rows as they enter the backbone.
Shapes: N items of one modality, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from anyany.eval.retrieval import recall_at
from anyany.eval.scores import Ask, Score, measured
from anyany.mini import augment, files
from anyany.mini.sources import FIRST_TRAINED, UNSEEN_SPEAKER
from anyany.mini.words import DIRECTIONS, NUMBERS, moving
from anyany.model import Model
from anyany.model.vectors import cosines, vectors
from anyany.parts import Image, Media, Message

DIGITS = 10
QUERIES = 1000
"""Of each cell, a tenth of them to each gallery."""
BATCH = 200
Gallery = dict[str, list[str | Media]]


@measured
def binding(ask: Ask, limit: int) -> Score:
    """Ten items of each modality, one of each digit; each looks for its own digit among the ten of another modality.

    All are test data, drawn afresh for each gallery. Clips and the sentences about them move one way in a gallery, so
    that the digit alone tells them apart. Text met each of the others in training, these never met each other.
    """
    galleries = _galleries(-(-min(limit, QUERIES) // DIGITS), np.random.default_rng(ask.seed))
    known = {kind: _vectors(ask.model, [part for g in galleries for part in g[kind]]) for kind in galleries[0]}
    cells = {}
    for one, other in permutations(("text", "image", "audio", "video"), 2):
        # What is said of a clip is a sentence, as in training; of a picture or a recording it is the word.
        names = ["sentence" if kind == "text" and "video" in (one, other) else kind for kind in (one, other)]
        similar = [
            cosines(a, b).numpy()
            for a, b in zip(known[names[0]].split(DIGITS), known[names[1]].split(DIGITS), strict=True)
        ]
        found = float(np.mean([recall_at(1, each, np.arange(DIGITS)) for each in similar]))
        trained = "text" in (one, other)
        cells[f"{one}-{other}"] = {"value": round(found, 4), "n": len(similar) * DIGITS, "trained": trained}
    means = {
        trained: float(np.mean([c["value"] for c in cells.values() if c["trained"] == trained]))
        for trained in (True, False)
    }  # fmt: skip
    return {
        "metric": "R@1", "value": round(means[False], 4), "n": sum(c["n"] for c in cells.values() if not c["trained"]),
        "baseline": f"chance {1 / DIGITS:.2f}; trained cells {means[True]:.3f}",
        "judge": "mean of the cells that were never paired; nearest by cosine among ten digits", "cells": cells,
    }  # fmt: skip


def _galleries(count: int, draw: np.random.Generator) -> list[Gallery]:
    """By modality, an item of each digit from zero to nine; text is there as ``text`` and as ``sentence``."""
    images, labels = files.mnist("t10k")
    of = [np.flatnonzero(labels == digit) for digit in range(DIGITS)]
    records = [r for r in files.spoken() if r.index < FIRST_TRAINED and r.speaker != UNSEEN_SPEAKER]
    said = [[r.audio for r in records if r.digit == digit] for digit in range(DIGITS)]
    out = []
    for _ in range(count):
        way = list(DIRECTIONS)[draw.integers(len(DIRECTIONS))]
        out.append({
            "text": [NUMBERS[d] for d in range(DIGITS)],
            "sentence": [moving(d, way) for d in range(DIGITS)],
            "image": [Image.from_array(images[draw.choice(of[d])]) for d in range(DIGITS)],
            "audio": [said[d][draw.integers(len(said[d]))] for d in range(DIGITS)],
            "video": [augment.clip(draw, images[draw.choice(of[d])], way) for d in range(DIGITS)],
        })  # fmt: skip
    return out


@torch.inference_mode()
def _vectors(model: Model, parts: Sequence[str | Media]) -> Tensor:
    """``(N, D)`` of any number of parts, on the CPU."""
    documents = [model.planner.plan([Message("user", (part,), chat=False)]) for part in parts]
    return torch.cat([vectors(model, documents[i : i + BATCH]).cpu() for i in range(0, len(documents), BATCH)])
