"""Messages -> documents: which spans a conversation has, and what fills them. No weights.

Everything here runs before any forward pass, and in data workers: lengths, coordinates and targets
are known from ``prepare`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from anyany.errors import PromptError, UnknownModalityError
from anyany.model.projector import Projector
from anyany.model.tokenizer import ROLES, TextTokenizer
from anyany.parts import Media
from anyany.parts.messages import Message
from anyany.plugin.components import Codec, Encoder, Prepared
from anyany.sequence.span import Span


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One span and what fills it.

    Attributes:
        span: Where it lies.
        ids: Token ids of a text span.
        prepared: Arrays of a media span, for its component; a projector may make other rows of them.
        learn: The loss reaches it.
        media: The part itself, for media spans.
    """

    span: Span
    ids: tuple[int, ...] = ()
    prepared: Prepared | None = None
    learn: bool = False
    media: Media | None = None


@dataclass(frozen=True)
class Document:
    """One conversation as pieces in order."""

    pieces: tuple[Piece, ...]

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans of the pieces."""
        return tuple(piece.span for piece in self.pieces)

    @property
    def rows(self) -> int:
        """Rows of the sequence."""
        return sum(piece.span.rows for piece in self.pieces)


class Planner:
    """Turns messages into documents.

    What the user gives is seen through the encoder of its modality (or the codec, where there is no
    encoder); what the assistant says is held as latents of the codec, as it is when generated.

    Args:
        tokenizer: Text <-> ids.
        encoders: By modality: component id, encoder, and projector.
        codecs: By modality: component id and codec.
        denoising: Ids of codecs whose heads learn on noised copies.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        encoders: Mapping[str, tuple[str, Encoder, Projector]],
        codecs: Mapping[str, tuple[str, Codec]],
        denoising: frozenset[str] = frozenset(),
    ) -> None:
        self.tokenizer = tokenizer
        self.encoders = encoders
        self.codecs = codecs
        self.denoising = denoising

    def plan(self, messages: Sequence[Message], *, reply: bool = False, train: bool = False) -> Document:
        """Spans of a conversation.

        Args:
            messages: In order.
            reply: Open an assistant message at the end, for generation.
            train: The loss reaches what the assistant says; denoising heads get noised copies.
        """
        marks = self.tokenizer.marks
        pieces: list[Piece] = []
        latest: dict[str, Media] = {}
        if marks.bos is not None:
            pieces.append(_text([marks.bos]))
        part = 0
        for message in messages:
            if message.role not in ROLES:
                raise PromptError(f"role: expected one of {', '.join(ROLES)}, got {message.role!r}")
            said = message.role == "assistant"
            mark = getattr(marks, message.role)
            if mark is not None:
                pieces.append(_text([mark]))
            for item in message.parts:
                pieces.append(self._piece(item, part, said, train and said, latest))
                if isinstance(item, Media):
                    latest[item.modality] = item
                part += 1
            if marks.end is not None:
                pieces.append(_text([marks.end], learn=train and said))
        if reply and marks.assistant is not None:
            pieces.append(_text([marks.assistant]))
        pieces = [piece for piece in pieces if piece.span.rows]
        if train:
            pieces.extend(_noised(pieces, self.denoising))
        return Document(tuple(pieces))

    def _piece(self, item: str | Media, part: int, said: bool, learn: bool, latest: Mapping[str, Media]) -> Piece:
        if isinstance(item, str):
            return _text(self.tokenizer.encode(item), part=part, learn=learn)
        encoder, codec = self.encoders.get(item.modality), self.codecs.get(item.modality)
        if said and codec is not None:
            prepared = codec[1].prepare(item, latest.get(item.modality))
            return _media(codec[0], "latents", prepared, part, item, learn)
        if encoder is not None:
            return _features(*encoder, part, item)
        if codec is not None:
            prepared = codec[1].prepare(item, latest.get(item.modality))
            return _media(codec[0], "latents", prepared, part, item, False)
        known = sorted({*self.encoders, *self.codecs}) or ["none"]
        raise UnknownModalityError(
            f"part {part}: the model has no component for {item.modality!r}; it has {', '.join(known)}. "
            f"Try: pip install anyany-{item.modality}, and a model that was trained with it"
        )


def _text(ids: Sequence[int], *, part: int = -1, learn: bool = False) -> Piece:
    span = Span(component="text", view="text", rows=len(ids), part=part)
    return Piece(span=span, ids=tuple(ids), learn=learn)


def _features(name: str, encoder: Encoder, projector: Projector, part: int, media: Media) -> Piece:
    prepared = encoder.prepare(media)
    piece = _media(name, "features", projector.laid(prepared), part, media, False, bare=not projector.marked)
    return replace(piece, prepared=prepared)


def _media(
    name: str, view: str, prepared: Prepared, part: int, media: Media, learn: bool, *, bare: bool = False
) -> Piece:
    span = Span(
        component=name,
        view="latents" if view == "latents" else "features",
        rows=prepared.rows + (0 if bare else 2),
        part=part,
        coordinates=prepared.coordinates,
        look=prepared.look,
        bare=bare,
    )
    return Piece(span=span, prepared=prepared, learn=learn, media=media)


def _noised(pieces: Sequence[Piece], denoising: frozenset[str]) -> list[Piece]:
    """Copies of the learnable spans of denoising heads, to stand behind the clean rows."""
    copies = []
    for index, piece in enumerate(pieces):
        if piece.learn and piece.span.component in denoising:
            span = Span(
                component=piece.span.component, view="latents", rows=piece.span.inner, part=piece.span.part,
                coordinates=piece.span.coordinates, look="full", noised=True, of=index,
            )  # fmt: skip
            copies.append(Piece(span=span, learn=True))
    return copies
