"""Messages -> documents: which spans a conversation has, and what fills them. No weights.

Everything here runs before any forward pass, and in data workers: lengths, coordinates and targets
are known from ``prepare`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from anyany.errors import PromptError, UnknownModalityError
from anyany.model.projector import Projector
from anyany.model.spelling import Stand
from anyany.model.template import join
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
        stands: By modality: what stands for a part in a text, for models of others.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        encoders: Mapping[str, tuple[str, Encoder, Projector]],
        codecs: Mapping[str, tuple[str, Codec]],
        denoising: frozenset[str] = frozenset(),
        stands: Mapping[str, Stand] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.encoders = encoders
        self.codecs = codecs
        self.denoising = denoising
        self.stands = dict(stands or {})

    def plan(self, messages: Sequence[Message], *, reply: bool = False, train: bool = False) -> Document:
        """Spans of a conversation; the chat template frames it, where the model has one and it is no plain prompt.

        Args:
            messages: In order.
            reply: Open an assistant message at the end, for generation.
            train: The loss reaches what the assistant says; denoising heads get noised copies.
        """
        for message in messages:
            if message.role not in ROLES:
                raise PromptError(f"role: expected one of {', '.join(ROLES)}, got {message.role!r}")
        chat = self.tokenizer.template is not None and all(message.chat for message in messages)
        marked = not (chat or self.stands)
        pieces = (self._marked if marked else self._framed)(messages, reply, train)
        pieces = [piece for piece in pieces if piece.span.rows]
        if train:
            pieces.extend(_noised(pieces, self.denoising))
        return Document(tuple(pieces))

    def _marked(self, messages: Sequence[Message], reply: bool, train: bool) -> list[Piece]:
        """Pieces with the marks of the model between them."""
        marks = self.tokenizer.marks
        pieces: list[Piece] = []
        latest: dict[str, Media] = {}
        if marks.bos is not None:
            pieces.append(_text([marks.bos]))
        part = 0
        for message in messages:
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
        return pieces

    def _framed(self, messages: Sequence[Message], reply: bool, train: bool) -> list[Piece]:
        """Pieces of one text in which parts stand that are none, framed by the chat template where it is a chat."""
        template, tokenizer = self.tokenizer.template, self.tokenizer
        for item in (item for message in messages for item in message.parts if isinstance(item, str)):
            tokenizer.check(item)
        given = (messages, tokenizer.backend, self.stands)
        if template is not None and all(message.chat for message in messages):
            framed = template.frame(*given, bos=tokenizer.marks.bos, reply=reply, train=train)
        else:
            framed = join(*given, bos=tokenizer.marks.bos)
        parts = [(message.role == "assistant", item) for message in messages for item in message.parts]
        waiting: dict[int, list[int]] = {i: [] for i in (framed.medium, *framed.places.values())}
        for number, (_, item) in enumerate(parts):
            if isinstance(item, Media):
                waiting[framed.places.get(item.modality, framed.medium)].append(number)
        pieces: list[Piece] = []
        latest: dict[str, Media] = {}
        tokens = zip(framed.ids, framed.parts, strict=True)
        for (place, part), run in groupby(tokens, key=lambda token: (token[0] in waiting and token[0], token[1])):
            ids = [token for token, _ in run]
            if place is False:
                pieces.append(_text(ids, part=part, learn=train and part >= 0 and parts[part][0]))
                continue
            for _ in ids:
                if not waiting[place]:
                    raise PromptError("chat template: it has a place for a part that the conversation has not")
                number = waiting[place].pop(0)
                said, item = parts[number]
                pieces.append(self._piece(item, number, said, train and said, latest))
                latest[item.modality] = item  # type: ignore[union-attr]
        if left := [numbers[0] for numbers in waiting.values() if numbers]:
            raise PromptError(f"part {min(left)}: the chat template leaves it out")
        return pieces

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
