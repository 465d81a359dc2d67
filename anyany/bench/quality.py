"""What small integers cost: perplexity of captions under the default model as decoding reads it.

Captions of series (TRUCE, validation split), each a document of less than 64 rows, which the library passes at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from anyany.bench.measure import Figure, quartiles
from anyany.model import Document, Model, assembly, load
from anyany.native import Form
from anyany.parts import Message, TimeSeries
from anyany.sequence import Layout

MOST = 300


def perplexity(form: Form, goal: float, rounds: int) -> Figure:
    """Perplexity with the model's own weights over that with small integers, part by part of the captions.

    Raises:
        NativeError: There is no native library.
        DataError: The captions are not there.
    """
    exact, near = load(device="cpu"), load(device="cpu", weights=form)
    documents = list(_documents(exact))
    own, small = ([_loss(model, document) for document in documents] for model in (exact, near))
    ratios = [_perplexity(own[i::rounds]) / _perplexity(small[i::rounds]) for i in range(rounds)]
    return Figure(
        id=f"quality-{form}",
        what=f"perplexity of {len(documents)} captions under mini, {_perplexity(own):.3f} and in {form} "
        f"{_perplexity(small):.3f}",
        quartiles=quartiles(ratios),
        peer="its own weights",
        goal=goal,
    )


def _documents(model: Model) -> Iterator[Document]:
    from anyany.mini import files

    for item in files.truce("val")[:MOST]:
        asked_for = Message("user", (TimeSeries.from_array(item.values), "Describe the series."))
        yield model.planner.plan([asked_for, Message("assistant", (item.captions[0],))], train=True)


@torch.inference_mode()
def _loss(model: Model, document: Document) -> tuple[float, int]:
    """Sum over the words of the reply, and how many they are."""
    pieces, backbone = assembly.placed([document]), model.backbone
    layout = Layout.pack([document.spans], backbone.scheme)
    pool = backbone.new_pool(document.rows)
    slots = slice(*pool.append(pool.reserve(document.rows), document.rows))
    rows = assembly.embed(model, pieces).rows
    hidden = backbone(rows, layout.coordinates, layout.intervals, cache=pool, slots=slots)  # (T, D)
    at, targets = assembly.text_targets(model, pieces)
    logits = model.text.logits(hidden[at])
    return float(F.cross_entropy(logits, torch.tensor(targets), reduction="sum")), len(targets)


def _perplexity(losses: list[tuple[float, int]]) -> float:
    return math.exp(sum(loss for loss, _ in losses) / sum(words for _, words in losses))
