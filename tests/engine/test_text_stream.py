"""Text as it comes: stop strings across token borders, characters of several bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyany.engine.text_stream import TextStream
from anyany.model import TextTokenizer


class Pieces:
    """A decoder whose token i is the i-th of some strings; ``None`` stands for half a character."""

    def __init__(self, pieces: list[str | None]) -> None:
        self.pieces = pieces

    def step(self, token: int) -> str | None:
        return self.pieces[token]


def said(pieces: list[str | None], stop: tuple[str, ...] = ()) -> tuple[str, list[str], bool]:
    """All that was shown, each delta, and whether a stop string came."""
    stream, deltas = TextStream(Pieces(pieces), stop), []
    for token in range(len(pieces)):
        deltas.append(stream.push(token))
        if stream.stopped:
            break
    deltas.append(stream.close())
    assert "".join(deltas) == stream.text
    return stream.text, deltas, stream.stopped


letters = st.text("abc", max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.lists(letters | st.none(), max_size=8), st.text("abc", min_size=1, max_size=4))
def test_a_stop_string_cuts_at_its_first_place_wherever_tokens_end(pieces, stop):
    whole = "".join(p or "" for p in pieces)
    text, _, stopped = said(pieces, (stop,))
    assert stopped == (stop in whole)
    assert text == whole.split(stop)[0]


@settings(max_examples=200, deadline=None)
@given(st.lists(letters, max_size=8), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_nothing_is_shown_that_a_stop_string_takes_back(pieces, stops):
    text, deltas, stopped = said(pieces, tuple(stops))
    shown = ""
    for delta in deltas:
        shown += delta
        assert not any(s in shown for s in stops)
    if not stopped:
        assert text == "".join(pieces)
    else:
        rest = "".join(pieces)[len(text) :]
        assert any(rest.startswith(s) for s in stops)


def test_what_cannot_become_a_stop_string_is_shown_at_once():
    stream = TextStream(Pieces(["hel", "lo E", "N", "ow"]), ("END",))
    assert [stream.push(i) for i in range(4)] == ["hel", "lo ", "", "ENow"]


@pytest.mark.parametrize("text", ["grün → 東京 🎉 ok", "ab🎉", "é"])
def test_characters_of_many_tokens_are_shown_whole(tokenizer: TextTokenizer, text):
    class Decoder:
        def __init__(self):
            self.stream = tokenizer.stream()

        def step(self, token):
            return self.stream.step(tokenizer.backend, token)

    stream = TextStream(Decoder())
    deltas = [stream.push(i) for i in tokenizer.encode(text)]
    assert "".join(deltas) == text
    assert "�" not in "".join(deltas)
    assert len(deltas) > len(text)
