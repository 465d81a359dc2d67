"""Chat templates of others: messages -> token ids, and where parts stand that are no text.

The template is a program in Jinja that comes with a checkpoint; it runs in jinja2's sandbox, and sees messages alone.
"""

from __future__ import annotations

import datetime
import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from itertools import takewhile
from typing import Any

from tokenizers import Tokenizer

from anyany.errors import CheckpointError, MissingPackageError, PromptError
from anyany.model.spelling import CLOSE, MEDIUM, OPEN, Spelling, Stand
from anyany.parts.messages import Message


@dataclass(frozen=True)
class Framed:
    """A conversation as token ids.

    Attributes:
        ids: Token ids; those of ``places``, or ``medium``, where a part stands that is no text.
        parts: Of each token the number of the part that it belongs to, -1 for none.
        places: What stands for a part, by modality.
        medium: What stands for one of any other modality.
    """

    ids: Sequence[int]
    parts: Sequence[int]
    places: Mapping[str, int]
    medium: int


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """A chat template and what it is rendered with.

    Attributes:
        source: In Jinja.
        tokens: Named tokens that it may use, such as ``{"bos_token": "<s>"}``.
        begin: The first row of a document stands before it, unless it writes that token itself, as processors of
            transformers do; without, it is left to the template, as tokenizers do.
        listed: Content is a list of parts, as the templates of models that take more than text expect it.
    """

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    begin: bool = False
    listed: bool = False

    def check(self) -> None:
        """Compile it, where jinja2 is there to do so.

        Raises:
            CheckpointError: It is no template.
        """
        if find_spec("jinja2") is not None:
            _compiled(self.source)

    def to_json(self) -> dict[str, Any]:
        """All but the source, which has a file of its own."""
        return {"tokens": dict(self.tokens), "begin": self.begin, "listed": self.listed}

    def frame(
        self, messages: Sequence[Message], backend: Tokenizer, stands: Mapping[str, Stand], *, bos: int | None,
        reply: bool, train: bool,
    ) -> Framed:  # fmt: skip
        """Frame a conversation.

        Args:
            messages: In order.
            backend: The tokenizer.
            stands: By modality, what stands for a part of it.
            bos: First row of a document.
            reply: Open an assistant message at the end.
            train: Find out which tokens belong to what the assistant says: from behind the opening of its turn to the
                end of it. All others belong to no part.

        Raises:
            PromptError: The template refuses the conversation; or, to learn from it, rewrites what was said before.
            MissingPackageError: jinja2 is not installed.
        """
        spelling = _spelling(self.source, backend, tuple(stands.items()))
        turns = [self._turn(message, spelling) for message in messages]
        text = self._rendered(turns, spelling, reply)
        ids, starts = spelling.ids(text)
        parts = [-1] * len(ids)
        for number, message in enumerate(messages):
            if train and message.role == "assistant":
                first = _shared(self._rendered(turns[:number], spelling, True), text, trailing=False)
                last = _shared(self._rendered(turns[: number + 1], spelling, False), text, trailing=True)
                before = sum(len(m.parts) for m in messages[:number])
                mine = [before + i for i, part in enumerate(message.parts) if isinstance(part, str)] or [-1]
                for at in (at for at, start in enumerate(starts) if first <= start < last):
                    if ids[at] in (spelling.medium, *spelling.places.values()):
                        mine = mine[1:] or mine  # behind a part that is no text the next text begins
                    else:
                        parts[at] = mine[0]
        if self.begin and bos is not None and (not ids or ids[0] != bos):
            ids, parts = [bos, *ids], [-1, *parts]
        return Framed(ids, parts, spelling.places, spelling.medium)

    def _turn(self, message: Message, spelling: Spelling) -> dict[str, Any]:
        """A message as a template sees it."""
        parts: list[dict[str, str]] = []
        for part in message.parts:
            if isinstance(part, str):
                parts.append({"type": "text", "text": spelling.hidden(part)})
            elif part.modality in spelling.places:
                parts.append({"type": part.modality})
            else:
                parts.append({"type": "text", "text": MEDIUM})
        if self.listed:
            return {"role": message.role, "content": parts}
        return {"role": message.role, "content": "".join(part["text"] for part in parts)}

    def _rendered(self, turns: list[Any], spelling: Spelling, reply: bool) -> str:
        """Text of a conversation, with names for control tokens."""
        from jinja2 import TemplateError

        if not turns:  # what a template writes before the first turn cannot be told from an opening
            return ""
        try:
            made = _compiled(self.source).render(
                messages=turns, tools=None, documents=None, add_generation_prompt=reply, **self.tokens
            )
        except TemplateError as error:
            raise PromptError(f"chat template: it refuses this conversation: {error}") from None
        except Exception as error:  # a template is a program, and may fail in as many ways
            raise PromptError(f"chat template: it failed on this conversation ({type(error).__name__})") from None
        return spelling.named(made)


def _shared(beginning: str, whole: str, *, trailing: bool) -> int:
    """How much of a conversation's text is that of its beginning alone.

    Args:
        beginning: Text of the first messages.
        whole: Text of all.
        trailing: What ends a conversation, control tokens and spaces, may be missing where more follows.
    """
    units = [re.findall(f"{OPEN}[0-9]+{CLOSE}|.", text, re.DOTALL) for text in (beginning, whole)]
    length = sum(len(one) for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(*units, strict=False)))
    rest = beginning[length:]
    if rest and not (trailing and re.fullmatch(f"(?:{OPEN}[0-9]+{CLOSE}|\\s)*", rest)):
        raise PromptError(
            "chat template: it writes what was said before in another way once more follows, so that it does not tell "
            "what the assistant said; learn from each reply in a sample of its own"
        )
    return length


@lru_cache(maxsize=8)
def _compiled(source: str) -> Any:
    """The template in its sandbox, with what transformers gives to templates."""
    try:
        from jinja2 import TemplateError, nodes
        from jinja2.ext import Extension
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise MissingPackageError("chat template: needs jinja2. Try: pip install 'anyany[chat]'") from None

    class Generation(Extension):
        """``{% generation %}`` marks what the assistant says; it changes no text."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    try:
        return environment.from_string(source)
    except (TemplateError, SyntaxError, RecursionError) as error:  # the last two of a template that nests too deep
        raise CheckpointError(f"chat template: is no template of jinja2: {error}") from None


def _json(value: Any, ensure_ascii: bool = False, **form: Any) -> str:
    """As jinja2's own, without HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **form)


def join(
    messages: Sequence[Message], backend: Tokenizer, stands: Mapping[str, Stand], *, bos: int | None
) -> Framed:  # fmt: skip
    """A plain prompt of a model whose parts have texts around them: all its parts as one text."""
    spelling = _spelling("", backend, tuple(stands.items()))
    text, ends, numbers = "", [], []
    for number, part in enumerate(part for message in messages for part in message.parts):
        spoken = isinstance(part, str)
        text += spelling.named(spelling.hidden(part)) if spoken else spelling.stand(part.modality)
        ends.append(len(text))
        numbers.append(number if spoken else -1)  # what stands around a part that is no text belongs to none
    ids, starts = spelling.ids(text)
    parts = [[*numbers, -1][bisect_right(ends, start)] for start in starts]
    begin = [] if bos is None else [bos]
    return Framed([*begin, *ids], [*(-1 for _ in begin), *parts], spelling.places, spelling.medium)


@lru_cache(maxsize=8)
def _spelling(source: str, backend: Tokenizer, stands: tuple[tuple[str, Stand], ...]) -> Spelling:
    constants: list[Any] = []
    if source:
        environment = _compiled(source).environment
        from jinja2.nodes import Const

        constants = [node.value for node in environment.parse(source).find_all(Const)]
    return Spelling(backend, [value for value in constants if isinstance(value, str)], dict(stands))
