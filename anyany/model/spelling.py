"""Control tokens under names that no text can have, so that text around them never becomes one.

A chat template writes control tokens and what people said into one string. Before it is rendered, the characters with
which a control token begins are taken out of what people said (``hidden``); so every control token in the result is the
template's, and gets a name made of code points that are no characters (Unicode 23.7), which people's text cannot hold;
then their characters come back. A tokenizer that knows these names alone reads the whole in one go, so that
text merges over the seams exactly as it does without all this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

from anyany.errors import PromptError

OPEN, CLOSE = "\ufdd0", "\ufdd1"
"""Around the number of a control token."""
MEDIUM = "\ufdd2"
"""Begins the name of a place for a part that is no text; alone, it is one for which the model has no token."""
HIDE, SHOW = "\ufdd3", "\ufdd4"
"""Around the number of a character that was taken out."""
_OURS = re.compile(f"[{OPEN}-{SHOW}]")


def control_ids(backend: Tokenizer) -> frozenset[int]:
    """Ids of control tokens; what stands for unknown text is none."""
    unknown = set(backend.encode(SHOW, add_special_tokens=False).ids)  # of a text that no vocabulary holds
    added = backend.get_added_tokens_decoder()
    return frozenset(i for i, token in added.items() if token.special and i not in unknown)


def hold_to_text(ids: Iterable[int], control: frozenset[int], backend: Tokenizer) -> None:
    """Some tokenizers hold control tokens among their words, too, and can read them out of a text.

    Raises:
        PromptError: One of the ids of a text is a control token.
    """
    if found := control.intersection(ids):
        token = backend.id_to_token(min(found))
        raise PromptError(f"text part: this tokenizer reads {token!r} as a control token in any text; take it out")


@dataclass(frozen=True)
class Stand:
    """What stands for a part of a modality in a text.

    Attributes:
        token: Id of the control token that means one part.
        before: Texts, and ids of control tokens, before the rows of the part in its place.
        after: The same behind them.
    """

    token: int
    before: tuple[str | int, ...] = ()
    after: tuple[str | int, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stand:
        """From what a checkpoint holds."""
        return cls(data["token"], tuple(data["before"]), tuple(data["after"]))

    @property
    def control(self) -> set[int]:
        """All control tokens."""
        return {self.token, *(each for each in (*self.before, *self.after) if isinstance(each, int))}


class Spelling:
    """Reads a rendered template.

    Args:
        backend: The tokenizer of the model; it is copied.
        constants: Texts that the template compares what people said with. They are left as they are, unless a control
            token could begin there.
        stands: By modality, what stands for a part of it.
    """

    def __init__(self, backend: Tokenizer, constants: Iterable[str], stands: Mapping[str, Stand]) -> None:
        added = {i: token for i, token in backend.get_added_tokens_decoder().items() if token.special}
        self.names = {token.content: f"{OPEN}{i}{CLOSE}" for i, token in added.items()}
        self._control = _any_of(self.names)
        self._forbidden = control_ids(backend)
        self._stands: dict[str, str] = {}  # by token, what is written in its place
        self._reader = Tokenizer.from_str(backend.to_str())
        self._reader.encode_special_tokens = True
        self._reader.add_tokens(
            [
                AddedToken(self.names[t.content], lstrip=t.lstrip, rstrip=t.rstrip, normalized=False)
                for t in added.values()
            ]
        )
        self._reader.add_tokens([AddedToken(MEDIUM, normalized=False)])
        self.medium: int = self._reader.token_to_id(MEDIUM)
        self.places = {modality: self._place(stand, added) for modality, stand in stands.items()}
        self._written = {modality: self._stands[added[stand.token].content] for modality, stand in stands.items()}
        self._ids = {self._reader.token_to_id(f"{OPEN}{i}{CLOSE}"): i for i in added}
        firsts = {content[0] for content in self.names}
        tails = {text[at:] for text in constants for at, first in enumerate(text) if first in firsts}
        kept = [tail for tail in tails if not any(_agree(tail, content) for content in self.names)]
        before = f"(?!{_any_of(kept).pattern})" if kept else ""
        self._first = re.compile(f"{before}(?:{_any_of(firsts).pattern})") if firsts else None

    def _place(self, stand: Stand, added: Mapping[int, AddedToken]) -> int:
        """Read a name where the rows of a part go, with what stands around it, in the place of its token."""
        token, name = added[stand.token], f"{MEDIUM}{stand.token}{CLOSE}"
        bare = not (stand.before or stand.after)  # then it swallows the spaces that its token does
        self._reader.add_tokens(
            [AddedToken(name, lstrip=bare and token.lstrip, rstrip=bare and token.rstrip, normalized=False)]
        )
        named = [each if isinstance(each, str) else f"{OPEN}{each}{CLOSE}" for each in (*stand.before, *stand.after)]
        named.insert(len(stand.before), name)
        self._stands[token.content] = "".join(named)
        return int(self._reader.token_to_id(name))

    def hidden(self, text: str) -> str:
        """What somebody said, without the characters with which a control token begins.

        Raises:
            PromptError: It holds code points that are no characters.
        """
        if found := _OURS.search(text):
            raise PromptError(f"text part: holds U+{ord(found[0]):04X}, which is no character; remove it")
        return text if self._first is None else self._first.sub(lambda m: f"{HIDE}{ord(m[0]):x}{SHOW}", text)

    def named(self, rendered: str) -> str:
        """The rendered template with names for control tokens, and people's characters back in their places.

        Raises:
            PromptError: The template has changed what people said where a character was taken out.
        """
        if self.names:
            rendered = self._control.sub(lambda m: self._stands.get(m[0], self.names[m[0]]), rendered)
        named = re.sub(f"{HIDE}([0-9a-f]+){SHOW}", lambda m: chr(int(m[1], 16)), rendered)
        if HIDE in named or SHOW in named:
            raise PromptError(
                "chat template: it cuts or changes a text in which a control token could begin; leave such characters "
                f"out: {', '.join(sorted({content[0] for content in self.names}))}"
            )
        return named

    def stand(self, modality: str) -> str:
        """What is written for a part of a modality, in names."""
        return self._written.get(modality, MEDIUM)

    def ids(self, named: str) -> tuple[list[int], list[int]]:
        """Token ids, those of ``places`` and ``medium`` among them, and where in ``named`` each begins.

        Raises:
            PromptError: The tokenizer reads a control token out of what somebody said.
        """
        read = self._reader.encode(named, add_special_tokens=False)
        hold_to_text(read.ids, self._forbidden, self._reader)
        return [self._ids.get(i, i) for i in read.ids], [start for start, _ in read.offsets]


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """The longest of several texts."""
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)))


def _agree(one: str, other: str) -> bool:
    """Whether one text begins with the other."""
    return one.startswith(other) or other.startswith(one)
