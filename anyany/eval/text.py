"""Metrics of text. All but BLEU compare words that are set apart by blanks."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from anyany.errors import DataError
from anyany.plugin.evaluation import Mean

ORDERS = 4
"""Of BLEU: from single words to runs of four."""


def exact_match() -> Mean:
    """1 where the reply is one of the references, blanks at the ends aside, else 0."""
    return Mean(lambda answer, references, _: float(answer.strip() in [r.strip() for r in references]))


def rouge_l() -> Mean:
    """ROUGE-L (Lin 2004), F1 over words in lower case, against the best of the references."""
    return Mean(lambda answer, references, _: rouge(answer, references))


def rouge(candidate: str, references: Sequence[str]) -> float:
    """ROUGE-L of one text, from 0 to 1."""
    return max(_overlap(candidate.lower().split(), r.lower().split()) for r in references)


def _overlap(a: Sequence[str], b: Sequence[str]) -> float:
    """Twice the longest common subsequence over both lengths."""
    above = [0] * (len(b) + 1)
    for x in a:
        row = [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(above[j + 1], row[j]))
        above = row
    return 2 * above[-1] / (len(a) + len(b)) if above[-1] else 0.0


def edits(a: Sequence[str], b: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions that make ``b`` of ``a`` (Levenshtein 1966)."""
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b):
            row.append(min(above[j] + (x != y), above[j + 1] + 1, row[j] + 1))
        above = row
    return above[-1]


class WordErrorRate:
    """Word errors of all replies over words of all references; against the reference with the smallest share."""

    def measure(self, answer: str, references: Sequence[str], prompt: Sequence[object]) -> tuple[int, int]:
        """Errors, and words of the reference.

        Raises:
            DataError: A reference has no word.
        """
        words = [r.split() for r in references]
        if not all(words):
            raise DataError("word-error-rate: a reference has no word; leave the item out")
        counts = [(edits(r, answer.split()), len(r)) for r in words]
        return min(counts, key=lambda c: c[0] / c[1])

    def total(self, measured: Sequence[tuple[int, int]]) -> float:
        """Above 1 where the replies are longer than right."""
        return sum(errors for errors, _ in measured) / sum(words for _, words in measured)


class Overlap(NamedTuple):
    """What one text contributes to BLEU: by order, the n-grams that a reference has too, and all; and lengths."""

    hits: tuple[int, ...]
    grams: tuple[int, ...]
    length: int
    reference: int


class Bleu:
    """BLEU of a corpus (Papineni et al. 2002) from 0 to 100, as sacreBLEU gives it by default.

    That is tokenizer ``13a``, case kept, n-grams of up to four words, and exponential smoothing of orders without a
    hit (Post 2018, arXiv 1804.08771).
    """

    def measure(self, answer: str, references: Sequence[str], prompt: Sequence[object]) -> Overlap:
        """Counts of one text."""
        words, others = tokens(answer), [tokens(r) for r in references]
        hits, grams = [], []
        for order in range(1, ORDERS + 1):
            ours, most = _grams(words, order), Counter[tuple[str, ...]]()
            for other in others:
                most |= _grams(other, order)
            hits.append((ours & most).total())
            grams.append(ours.total())
        nearest = min((len(other) for other in others), key=lambda n: (abs(n - len(words)), n))
        return Overlap(tuple(hits), tuple(grams), len(words), nearest)

    def total(self, measured: Sequence[Overlap]) -> float:
        """Geometric mean of the shares of hits, times the penalty of what is too short."""
        hits = [sum(m.hits[n] for m in measured) for n in range(ORDERS)]
        grams = [sum(m.grams[n] for m in measured) for n in range(ORDERS)]
        length, reference = sum(m.length for m in measured), sum(m.reference for m in measured)
        if not any(hits) or not all(grams):
            return 0.0
        logs, smooth = 0.0, 1
        for hit, of in zip(hits, grams, strict=True):
            smooth *= 1 if hit else 2
            logs += math.log((hit or 1 / smooth) / of)
        penalty = min(0.0, 1 - reference / length)
        return 100 * math.exp(logs / ORDERS + penalty)


def _grams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


@cache
def _rules() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Signs stand alone; full stops and commas but between figures; a hyphen behind a figure."""
    return (
        (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
        (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
        (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
        (re.compile(r"([0-9])(-)"), r"\1 \2 "),
    )


def tokens(text: str) -> list[str]:
    """Words as ``mteval-v13a`` cuts them, which is what published figures of BLEU are over."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for mark, sign in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(mark, sign)
    text = f" {text} "
    for pattern, spaced in _rules():
        text = pattern.sub(spaced, text)
    return text.split()
