"""Text <-> ids, and the role marks that no text can spell.

User text is encoded part by part with special tokens disabled, so that text which looks like a mark
stays text. In our own checkpoints the marks lie behind the tokenizer's vocabulary: no string maps to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from anyany.errors import CheckpointError, PromptError
from anyany.model.spelling import control_ids, hold_to_text
from anyany.model.template import ChatTemplate

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Ids of the rows that structure a conversation; ``None`` where a model has no such row.

    Attributes:
        bos: First row of a document.
        system: Opens a message of this role; likewise ``user`` and ``assistant``.
        end: Closes a message, and ends a reply.
        stops: Further ids that end a reply.
    """

    bos: int | None = None
    system: int | None = None
    user: int | None = None
    assistant: int | None = None
    end: int | None = None
    stops: tuple[int, ...] = ()

    @property
    def ends(self) -> frozenset[int]:
        """All ids that end a reply."""
        return frozenset(self.stops) | ({self.end} if self.end is not None else set())

    @classmethod
    def behind(cls, vocab: int) -> Marks:
        """Marks that lie behind a tokenizer of ``vocab`` entries."""
        return cls(bos=vocab, system=vocab + 1, user=vocab + 2, assistant=vocab + 3, end=vocab + 4)

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids of marks."""
        single = (self.bos, self.system, self.user, self.assistant, self.end)
        return (*(x for x in single if x is not None), *self.stops)

    @property
    def count(self) -> int:
        """How many marks there are."""
        return len(self.ids) - len(self.stops)


class TextTokenizer:
    """A ``tokenizers.Tokenizer`` with the marks of the model, and its chat template where it has one."""

    def __init__(
        self, tokenizer: Tokenizer, marks: Marks | None = None, *, template: ChatTemplate | None = None,
        max_chars: int = 1_000_000,
    ) -> None:  # fmt: skip
        self.backend = tokenizer
        self.template = template
        self.backend.encode_special_tokens = True  # what looks like a special token stays text
        self.control = control_ids(tokenizer)
        self.marks = marks if marks is not None else Marks.behind(tokenizer.get_vocab_size())
        self.max_chars = max_chars

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.backend.encode_special_tokens = True  # the backend does not take this along to another process

    @classmethod
    def train(cls, texts: Iterable[str], vocab: int = 1024) -> TextTokenizer:
        """Byte-level BPE (Sennrich et al. 2016) over ``texts``: every string is encodable."""
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator(texts, trainer)
        return cls(backend)

    @property
    def vocab(self) -> int:
        """Entries of the tokenizer, marks not counted."""
        return int(self.backend.get_vocab_size())

    def check(self, text: str) -> None:
        """Hold a text to what can be encoded.

        Raises:
            PromptError: It is longer than the limit, or is not valid Unicode.
        """
        if len(text) > self.max_chars:
            raise PromptError(f"text part: at most {self.max_chars} characters, got {len(text)}; shorten or split it")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise PromptError("text part: holds lone surrogates, which are no characters; remove them") from None

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; none of them is a mark or a special token.

        Raises:
            PromptError: As ``check``; or it holds a word that the tokenizer can only read as a special token.
        """
        self.check(text)
        ids = list(self.backend.encode(text, add_special_tokens=False).ids)
        hold_to_text(ids, self.control, self.backend)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``; marks are passed over."""
        return str(self.backend.decode([i for i in ids if i < self.vocab], skip_special_tokens=False))

    def stream(self) -> decoders.DecodeStream:
        """A decoder that takes one id at a time: ``stream.step(tokenizer.backend, id)``."""
        return decoders.DecodeStream(skip_special_tokens=False)

    def to_json(self) -> dict[str, Any]:
        """The marks; the tokenizer itself is stored in ``tokenizer.json``."""
        return {
            "bos": self.marks.bos, "system": self.marks.system, "user": self.marks.user,
            "assistant": self.marks.assistant, "end": self.marks.end, "stops": list(self.marks.stops),
        }  # fmt: skip

    @classmethod
    def open(
        cls, path: Path, marks: dict[str, Any] | None = None, template: ChatTemplate | None = None
    ) -> TextTokenizer:
        """Read a ``tokenizer.json``.

        Raises:
            CheckpointError: The file is missing or damaged.
        """
        try:
            backend = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(f"{path.name}: expected in {path.parent}, not found") from None
        except (Exception, json.JSONDecodeError):
            raise CheckpointError(f"{path}: not a tokenizer.json; write the checkpoint again") from None
        if marks is None:
            return cls(backend)
        return cls(backend, Marks(**{**marks, "stops": tuple(marks.get("stops", ()))}), template=template)
