"""Reading a prompt or a reply without generating: logits, one vector per part, log-probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anyany.errors import EmptyMediaError, PromptError
from anyany.model import assembly
from anyany.model.document import Document, Piece
from anyany.parts import Media
from anyany.parts.messages import Message, as_messages
from anyany.sequence import Layout

if TYPE_CHECKING:
    from anyany.model.model import Model


def _hidden(model: Model, document: Document) -> tuple[list[assembly.Placed], assembly.Embedded, Tensor]:
    pieces = assembly.placed([document])
    embedded = assembly.embed(model, pieces, torch.Generator().manual_seed(0))
    layout = Layout.pack([document.spans], model.backbone.scheme)
    return pieces, embedded, model.backbone(embedded.rows, layout.coordinates, layout.intervals)


@torch.inference_mode()
def logits(model: Model, prompt: Any) -> Tensor:
    """See ``Model.logits``."""
    _, _, hidden = _hidden(model, model.planner.plan(as_messages(prompt), reply=True))
    return model.text.logits(hidden)


@torch.inference_mode()
def embed(model: Model, part: str | Media) -> Tensor:
    """See ``Model.embed``."""
    if not isinstance(part, str | Media):
        raise PromptError(f"embed: expected one part, a string or media, got {type(part).__name__}")
    pieces, _, hidden = _hidden(model, model.planner.plan([Message("user", (part,), chat=False)]))
    own = next((p for p in pieces if p.piece.span.part == 0), None)
    if own is None:
        raise EmptyMediaError("part 0: is empty; a vector needs at least one row")
    return hidden[own.start : own.start + own.piece.span.rows].mean(dim=0)


@torch.inference_mode()
def score(model: Model, prompt: Any, reply: Any) -> list[float]:
    """See ``Model.score``."""
    given = getattr(reply, "parts", reply)
    parts = (given,) if isinstance(given, str | Media) else given
    messages = as_messages([*as_messages(prompt), Message("assistant", parts)])
    document = model.planner.plan(messages, train=True)
    pieces, embedded, hidden = _hidden(model, document)
    offset = sum(len(m.parts) for m in messages[:-1])
    with torch.random.fork_rng():  # losses that draw noise draw the same each time
        torch.manual_seed(0)
        return [_score_part(model, pieces, embedded, hidden, offset + i) for i in range(len(messages[-1].parts))]


def _score_part(
    model: Model, pieces: list[assembly.Placed], embedded: assembly.Embedded, hidden: Tensor, part: int
) -> float:
    """Losses of one part alone, its begin mark included."""
    chosen = [_only(p, part) for p in pieces]
    terms = assembly.losses(model, chosen, embedded, hidden)
    return -float(sum(term.total for term in terms.values()))


def _only(placed: assembly.Placed, part: int) -> assembly.Placed:
    piece = placed.piece
    if piece.span.part == part or not piece.learn:
        return placed
    muted = Piece(span=piece.span, ids=piece.ids, prepared=piece.prepared, learn=False, media=piece.media)
    return assembly.Placed(muted, placed.start, placed.first)
