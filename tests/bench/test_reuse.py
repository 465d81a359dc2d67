"""Both sides of the comparisons say the same, and the figures are there; how fast they are is for a quiet machine."""

from __future__ import annotations

from pathlib import Path

import pytest

import anyany
from anyany.bench import batch, reuse

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (Path(anyany.__file__).parent / "mini" / "weights").is_dir(), reason="the weights of mini are not here"
    ),
]


@pytest.mark.parametrize(("name", "run"), [("media-cache", reuse.picture), ("chat-turn", reuse.turn)])
def test_what_is_kept_changes_no_reply(name, run):
    figure = run(1)
    assert (figure.id, figure.unit) == (name, "x")
    assert min(figure.quartiles) > 0


def test_padded_batches_say_the_same():
    pytest.importorskip("transformers")
    assert batch.mixed(1).id == "batch"


def test_replies_that_differ_are_an_error(monkeypatch):
    from anyany.errors import AnyanyError

    answers = iter("abcdef")
    monkeypatch.setattr(reuse, "_first", lambda model, prompt: next(answers))
    with pytest.raises(AnyanyError, match="the replies differ"):
        reuse.picture(1)
