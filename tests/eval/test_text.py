"""Metrics of text: by hand, and against the libraries that published figures are made with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyany.errors import DataError
from anyany.eval.text import Bleu, WordErrorRate, edits, exact_match, rouge, rouge_l, tokens


def total(metric, answers, references):
    return metric.total([metric.measure(a, r, ()) for a, r in zip(answers, references, strict=True)])


def test_exact_match():
    assert (
        total(exact_match(), ["four", " four\n", "Four", "for"], [["four"], ["three", "four"], ["four"], ["four"]])
        == 0.5
    )


@pytest.mark.parametrize(
    ("candidate", "references", "value"),
    [
        ("it rises", ["it rises"], 1.0),
        ("it rises", ["it falls", "It RISES"], 1.0),
        ("a b c d", ["a x c y"], 0.5),
        ("d c b a", ["a b c d"], 0.25),  # order counts
        ("", ["a"], 0.0),
        ("a", [""], 0.0),
    ],
)
def test_rouge_l(candidate, references, value):
    assert rouge(candidate, references) == pytest.approx(value)
    assert total(rouge_l(), [candidate], [references]) == pytest.approx(value)


WORDS = ["it", "It", "rises,", "falls.", "1,000.5", "a-b", "3-4", "(so)", "&amp;", "é", "end\n", "x<skipped>y", "$5%"]


def sentences(seed: int, count: int, least: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, draw.integers(least, 12))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_bleu_is_that_of_sacrebleu(seed):
    sacrebleu = pytest.importorskip("sacrebleu")
    answers, one, other = (sentences(seed * 10 + i, 7, 3) for i in range(3))
    answers[0] = one[0]  # some n-grams of four are right, unless the seed is unkind, and then they are smoothed
    theirs = sacrebleu.corpus_bleu(answers, [one, other]).score
    assert total(Bleu(), answers, list(zip(one, other, strict=True))) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    ("answers", "references"),
    [
        (["a b c d e"], ["a b c d e f g h"]),  # too short
        (["a b c d e f"], ["a b x d e y"]),  # no n-gram of three is right
        (["a"], ["a"]),  # no n-gram of two exists
        (["", "a b c d"], ["a b", "a b c d"]),
        (["x y z w"], ["a b c d"]),
    ],
)
def test_bleu_at_its_edges(answers, references):
    sacrebleu = pytest.importorskip("sacrebleu")
    theirs = sacrebleu.corpus_bleu(answers, [references]).score
    assert total(Bleu(), answers, [[r] for r in references]) == pytest.approx(theirs, abs=1e-9)


def test_bleu_by_hand():
    """Five words, one wrong: shares 4/5, 3/4, 2/3, 1/2, and no penalty."""
    value = total(Bleu(), ["a b c d x"], [["a b c d e"]])
    assert value == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_tokens():
    assert tokens("It's 1,000.5 (so), a-b: 3-4.") == [
        "It's", "1,000.5", "(", "so", ")", ",", "a-b", ":", "3", "-", "4", "."
    ]  # fmt: skip


text = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(text, st.lists(st.sampled_from("abcd"), max_size=9)), min_size=1, max_size=4))
def test_word_error_rate_is_that_of_jiwer(pairs):
    jiwer = pytest.importorskip("jiwer")
    references, answers = [" ".join(r) for r, _ in pairs], [" ".join(a) for _, a in pairs]
    ours = total(WordErrorRate(), answers, [[r] for r in references])
    assert ours == pytest.approx(jiwer.wer(references, answers))


def test_edits_and_the_better_of_two_references():
    assert edits("kitten", "sitting") == 3
    assert edits("", "abc") == edits("abc", "") == 3
    assert total(WordErrorRate(), ["a b c"], [["x y z", "a b d"]]) == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="a reference has no word"):
        WordErrorRate().measure("a", ["  "], ())
