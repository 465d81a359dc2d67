"""Documents -> rows of the backbone, and hidden states -> losses: the weights around the backbone.

Each component runs once per batch, over all its items. Rows are gathered from what was produced, never
written into a buffer, so that no uninitialised memory can reach the backbone.

Shapes: T packed rows, D model width, V vocabulary with marks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anyany.errors import PromptError, SpanMismatchError
from anyany.heads.base import Head, HeadLoss
from anyany.model.document import Document, Piece
from anyany.plugin.components import Prepared

if TYPE_CHECKING:
    from anyany.model.model import Model

Producer = Callable[[Sequence[Prepared]], Tensor]
"""Rows of all items, in order: an encoder, ``encode`` of a codec, or what reads the rows that these made before."""


@dataclass
class Embedded:
    """Rows of a batch and what the losses need of them.

    Attributes:
        rows: ``(T, D)``.
        latents: Latents of all clean spans of a codec, by id, in order.
        noise: Targets of the noised spans, by id.
    """

    rows: Tensor
    latents: dict[str, Tensor] = field(default_factory=dict)
    noise: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Placed:
    """A piece and the index of its first row; the first piece of a document has nothing before it."""

    piece: Piece
    start: int
    first: bool = False


def placed(documents: Sequence[Document]) -> list[Placed]:
    """All pieces of a packed batch with their first rows, in order."""
    out, start = [], 0
    for document in documents:
        for index, piece in enumerate(document.pieces):
            out.append(Placed(piece, start, first=index == 0))
            start += piece.span.rows
    return out


def check_rows(pieces: Sequence[Piece]) -> None:
    """Hold a prompt to have rows.

    Raises:
        PromptError: There is no row at all.
    """
    if not pieces:
        raise PromptError("prompt: holds nothing, and the model has no marks that would; add a part")


def embed(
    model: Model, pieces: Sequence[Placed], draw: torch.Generator | None = None,
    producers: Mapping[str, Producer] | None = None,
) -> Embedded:  # fmt: skip
    """Rows of a packed batch.

    Args:
        model: Its components make the rows.
        pieces: From ``placed``.
        draw: Noise for the noised copies of denoising heads.
        producers: What runs over the items, by component; the model's own if not given.

    Raises:
        PromptError: There is no row at all.
    """
    check_rows([item.piece for item in pieces])
    producers = model.producers if producers is None else producers
    out = Embedded(torch.empty(0))
    blocks: list[Tensor] = []
    where: list[int] = []
    by: dict[tuple[str, str], list[Placed]] = {}
    for item in pieces:
        by.setdefault((item.piece.span.view, item.piece.span.component), []).append(item)
    for (view, name), members in by.items():
        clean = [item for item in members if not item.piece.span.noised]
        if view == "text":
            ids = [i for item in clean for i in item.piece.ids]
            blocks.append(model.text.embed(torch.tensor(ids, device=model.device)))
            where.extend(r for item in clean for r in range(item.start, item.start + item.piece.span.rows))
        elif view == "features":
            produced = _projected(model, name, clean, producers[f"encoder/{name}"])
            _with_marks(produced, model.projectors[name], clean, blocks, where)
        else:
            head = model.heads[name]
            # Targets do not depend on the precision of the training.
            with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
                latents = _produce(producers[f"codec/{name}"], name, clean)
            out.latents[name] = latents
            _with_marks(head.embed(latents), head, clean, blocks, where)
            noised = [item for item in members if item.piece.span.noised]
            if noised:
                _add_noised(out, name, head, clean, noised, draw, blocks, where)
    order = torch.empty(len(where), dtype=torch.long)
    order[torch.tensor(where)] = torch.arange(len(where))
    out.rows = torch.cat(blocks)[order.to(model.device)]
    return out


def _add_noised(
    out: Embedded, name: str, head: Head, clean: Sequence[Placed], noised: Sequence[Placed],
    draw: torch.Generator | None, blocks: list[Tensor], where: list[int],
) -> None:  # fmt: skip
    """Rows of noised copies; they copy the learnable clean spans, in order."""
    lengths = [item.piece.span.inner for item in clean]
    parts = out.latents[name].split(lengths)
    latents = torch.cat([z for z, item in zip(parts, clean, strict=True) if item.piece.learn])
    rows, out.noise[name] = head.noise(latents, [item.piece.span.rows for item in noised], draw)
    blocks.append(rows)
    where.extend(r for item in noised for r in range(item.start, item.start + item.piece.span.rows))


def _projected(model: Model, name: str, members: Sequence[Placed], produce: Producer) -> Tensor:
    """Rows of an encoder's items, as its projector makes them."""
    projector = model.projectors[name]
    features = _produce(produce, name, members).to(projector.dtype)
    rows: Tensor = projector(features, [item.piece.prepared for item in members])
    declared = sum(item.piece.span.inner for item in members)
    if len(rows) != declared:
        raise SpanMismatchError(
            f"{name}: its projector declared {declared} rows and made {len(rows)}; laid() and forward() must agree"
        )
    return rows


def _with_marks(
    produced: Tensor,
    marks: torch.nn.Module,
    members: Sequence[Placed],
    blocks: list[Tensor],
    where: list[int],
) -> None:
    blocks.append(produced)
    for item in members:
        first = item.start + item.piece.span.marks // 2
        where.extend(range(first, first + item.piece.span.inner))
    marked = [item for item in members if item.piece.span.marks]
    if not marked:
        return
    blocks.append(marks.begin.expand(len(marked), -1))  # type: ignore[operator,union-attr]
    where.extend(item.start for item in marked)
    blocks.append(marks.end.expand(len(marked), -1))  # type: ignore[operator,union-attr]
    where.extend(item.start + item.piece.span.rows - 1 for item in marked)


def _produce(component: Producer, name: str, members: Sequence[Placed]) -> Tensor:
    """Run a component over all its items and hold it to the lengths that it declared."""
    batch = [item.piece.prepared for item in members]
    produced: Tensor = component(batch)  # type: ignore[arg-type]
    declared = sum(item.rows for item in batch)  # type: ignore[union-attr]
    if produced.shape[0] != declared:
        for item in members:
            one = component([item.piece.prepared])  # type: ignore[list-item]
            _check_rows(name, item.piece, one.shape[0])
        raise SpanMismatchError(
            f"{name}: a batch of {len(members)} declared {declared} rows and produced {produced.shape[0]}, "
            "while each item alone is right: the component mixes items"
        )
    return produced


def _check_rows(name: str, piece: Piece, produced: int) -> None:
    declared = piece.prepared.rows  # type: ignore[union-attr]
    if declared != produced:
        raise SpanMismatchError(
            f"{name}, part {piece.span.part}: declared {declared} rows, produced {produced}; "
            "prepare() and forward() of the component must agree"
        )


def losses(model: Model, pieces: Sequence[Placed], embedded: Embedded, hidden: Tensor) -> dict[str, HeadLoss]:
    """Loss of each head that has something to learn: ``text`` and codec ids.

    Args:
        model: Its heads.
        pieces: From ``placed``.
        embedded: From ``embed``.
        hidden: ``(T, D)`` from the backbone.
    """
    out: dict[str, HeadLoss] = {}
    rows, targets = text_targets(model, pieces)
    if rows:
        device = hidden.device
        out["text"] = model.text.loss(
            hidden[torch.tensor(rows, device=device)], torch.tensor(targets, device=device), model.calls()
        )
    for name, latents in embedded.latents.items():
        members = [p for p in pieces if p.piece.span.component == name and p.piece.span.view == "latents"]
        clean = [p for p in members if not p.piece.span.noised]
        learn = _learnt(pieces, name)
        if not learn:
            continue
        head = model.heads[name]
        if head.denoises:
            noised = [p for p in members if p.piece.span.noised]
            parts = embedded.noise[name].split([p.piece.span.rows for p in noised])
            kept = torch.cat([z for z, p in zip(parts, noised, strict=True) if p.piece.learn])
            index = [r for p in noised if p.piece.learn for r in range(p.start, p.start + p.piece.span.rows)]
            out[name] = head.loss_noised(hidden[torch.tensor(index)], kept)
            _check_counted(head, name, out[name], learn, True)
            continue
        parts = latents.split([p.piece.span.inner for p in clean])
        kept = torch.cat([z for z, p in zip(parts, clean, strict=True) if p.piece.learn])
        index = [r for p in learn for r in range(p.start, p.start + p.piece.span.rows - 1)]
        lengths = [p.piece.span.inner for p in learn]
        fixed = model.codecs[name].plan().fixed
        out[name] = head.loss(hidden[torch.tensor(index)], kept, lengths, fixed)
        _check_counted(head, name, out[name], learn, fixed)
    return out


def counts(model: Model, pieces: Sequence[Placed]) -> dict[str, int]:
    """``HeadLoss.rows`` of each head, as ``losses`` will give it, without running anything.

    So that a step over several batches can weigh the rows of all of them alike.
    """
    text = len(text_targets(model, pieces)[0])
    out = {"text": text} if text else {}
    for name, head in model.heads.items():
        lengths = [p.piece.span.inner for p in _learnt(pieces, name)]
        if lengths:
            out[name] = head.counted(lengths, model.codecs[name].plan().fixed)
    return out


def _check_counted(head: Head, name: str, loss: HeadLoss, learn: Sequence[Placed], fixed: bool) -> None:
    """A head whose loss is over other rows than it counts would be weighed wrongly in a step of several batches."""
    counted = head.counted([p.piece.span.inner for p in learn], fixed)
    if counted != loss.rows:
        raise SpanMismatchError(
            f"{name}: counted() of its head says {counted} rows, its loss is over {loss.rows}; the two must agree"
        )


def _learnt(pieces: Sequence[Placed], name: str) -> list[Placed]:
    """Clean spans of a codec that its head learns from."""
    spans = ((p, p.piece.span) for p in pieces if p.piece.learn)
    return [p for p, span in spans if span.component == name and span.view == "latents" and not span.noised]


def text_targets(model: Model, pieces: Sequence[Placed]) -> tuple[list[int], list[int]]:
    """Rows that predict a token or a begin mark, and what they predict; nothing predicts a first row."""
    rows: list[int] = []
    targets: list[int] = []
    begins = {emitter.name: index for index, emitter in enumerate(model.decoders)}
    for item in pieces:
        piece = item.piece
        if not piece.learn or piece.span.noised:
            continue
        if piece.span.view == "text":
            skip = int(item.first)
            rows.extend(range(item.start - 1 + skip, item.start + piece.span.rows - 1))
            targets.extend(piece.ids[skip:])
        elif piece.span.view == "latents" and not item.first:
            rows.append(item.start - 1)
            targets.append(model.text.vocab + begins[piece.span.component])
    return rows, targets
