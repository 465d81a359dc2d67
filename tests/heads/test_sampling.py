"""Batched sampling against a plain reference, one request at a time in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anyany.errors import GuidanceError, LayoutError
from anyany.heads.guidance import combine
from anyany.heads.sampling import sample, sample_end
from anyany.heads.steps import Sampling


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kept(logits: list[float], rule: Sampling) -> list[tuple[int, float]]:
    """Choices that the rule leaves, the likeliest first, with their probabilities."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    weights = [math.exp((logits[i] - logits[order[0]]) / rule.temperature) for i in order]
    probs = [w / sum(weights) for w in weights]
    pairs = list(zip(order, probs, strict=True))[: rule.top_k or None]
    total = sum(p for _, p in pairs)
    out, reached = [], 0.0
    for choice, p in pairs:
        if out and reached >= rule.top_p:
            break
        out.append((choice, p / total))
        reached += p / total
    scale = sum(p for _, p in out)
    return [(choice, p / scale) for choice, p in out]


rules = st.builds(
    Sampling,
    temperature=st.floats(0.1, 3.0),
    top_k=st.integers(0, 12),
    top_p=st.floats(0.01, 1.0),
)
# Whole numbers of a fifth: no two choices differ by less than a rounding error, yet ties are common.
rows = st.lists(st.integers(-20, 20).map(lambda i: i / 5), min_size=2, max_size=10)


@settings(max_examples=150, deadline=None)
@given(rows, rules, st.integers(0, 2**31))
def test_a_draw_is_the_inverse_of_the_cumulative_distribution(logits, rule, seed):
    ids, logprob = sample(torch.tensor([logits]), [rule], [generator(seed)])
    u = float(torch.rand((), generator=generator(seed)))
    reached, near = 0.0, False
    choices = kept(logits, rule)
    expected = choices[-1][0]
    edge = [sum(p for _, p in choices[:n]) for n in range(len(choices) + 1)]
    near = any(abs(u - e) < 1e-4 for e in edge)
    full = kept(logits, Sampling(temperature=rule.temperature, top_k=rule.top_k))
    cut = [sum(p for _, p in full[:n]) for n in range(len(full) + 1)]
    if near or any(abs(rule.top_p - c) < 1e-5 for c in cut):
        return  # on the edge float32 and float64 may differ
    for choice, p in choices:
        reached += p
        if u < reached:
            expected = choice
            break
    assert int(ids) == expected
    plain = [math.exp(x - max(logits)) for x in logits]
    assert float(logprob) == pytest.approx(math.log(plain[expected] / sum(plain)), abs=1e-5)


@given(st.lists(rows, min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_greedy_is_the_largest_and_draws_nothing(batch):
    width = max(map(len, batch))
    logits = torch.tensor([[*row, *[-9.0] * (width - len(row))] for row in batch])
    draws = [generator(i) for i in range(len(batch))]
    before = [d.get_state() for d in draws]
    ids, _ = sample(logits, [Sampling(temperature=0.0, top_k=3, top_p=0.5)] * len(batch), draws)
    assert ids.tolist() == logits.argmax(dim=-1).tolist()
    assert all(torch.equal(d.get_state(), b) for d, b in zip(draws, before, strict=True))


def test_no_draw_depends_on_its_neighbours():
    logits = torch.randn(6, 50, generator=generator(1))
    every = [
        Sampling(), Sampling(temperature=0.0), Sampling(top_k=2), Sampling(top_p=0.3), Sampling(temperature=2.0),
        Sampling(temperature=0.5, top_k=7, top_p=0.9),
    ]  # fmt: skip
    together, logprobs = sample(logits, every, [generator(i) for i in range(6)])
    for i in range(6):
        alone, logprob = sample(logits[i : i + 1], [every[i]], [generator(i)])
        assert int(alone) == int(together[i])
        torch.testing.assert_close(logprob[0], logprobs[i])


def test_frequencies_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    draw = generator(0)
    ids = [int(sample(logits, [Sampling()], [draw])[0]) for _ in range(4000)]
    expected = logits[0].softmax(-1)
    for choice in range(3):
        assert abs(ids.count(choice) / 4000 - float(expected[choice])) < 0.03


@pytest.mark.parametrize(("rule", "allowed"), [(Sampling(top_k=1), {3}), (Sampling(top_p=1e-9), {3}),
                                               (Sampling(top_k=2, temperature=50.0), {3, 2})])  # fmt: skip
def test_what_a_rule_cuts_is_never_drawn(rule, allowed):
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    assert {int(sample(logits, [rule], [generator(s)])[0]) for s in range(60)} == allowed


def test_a_choice_that_is_ruled_out_is_never_drawn_and_plain_logits_give_the_log_probability():
    plain = torch.tensor([[5.0, 0.0, 1.0]])
    masked = plain.masked_fill(torch.tensor([[True, False, False]]), float("-inf"))
    for seed in range(30):
        ids, logprob = sample(masked, [Sampling(temperature=9.0)], [generator(seed)], plain)
        assert int(ids) != 0
        torch.testing.assert_close(logprob, plain.log_softmax(-1)[0, ids])


@pytest.mark.parametrize("bad", [[float("nan"), 0.0], [float("-inf")] * 2, [float("inf"), 0.0]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_damaged_logits_are_a_typed_error(bad, temperature):
    with pytest.raises(LayoutError, match="logits"):
        sample(torch.tensor([[0.0, 1.0], bad]), [Sampling(temperature=temperature)] * 2, [generator(0), generator(1)])


def test_ends_are_decided_only_where_they_may_be():
    logits = torch.tensor([3.0, -3.0, 3.0, -3.0])
    greedy = [Sampling(temperature=0.0)] * 4
    end, logprob = sample_end(logits, greedy, [generator(i) for i in range(4)], [True, True, False, False])
    assert end.tolist() == [True, False, False, False]
    sure = float(torch.nn.functional.logsigmoid(torch.tensor(3.0)))
    assert logprob.tolist() == pytest.approx([sure, sure, 0.0, 0.0])
    drawn = [bool(sample_end(torch.zeros(1), [Sampling()], [generator(s)], [True])[0]) for s in range(400)]
    assert 0.4 < sum(drawn) / 400 < 0.6


def test_guidance_follows_its_formula_and_each_request_its_own_strength():
    values = torch.randn(3, 2, 4, generator=generator(0))
    strengths = [1.0, 0.0, 3.5]
    out = combine(values, [Sampling(guidance=s) for s in strengths])
    for b, s in enumerate(strengths):
        torch.testing.assert_close(out[b], values[b, 1] + s * (values[b, 0] - values[b, 1]))
    torch.testing.assert_close(out[0], values[0, 0])


def test_guidance_without_a_branch_is_never_skipped():
    with pytest.raises(GuidanceError, match=r"guidance 2\.0"):
        combine(torch.zeros(2, 1, 3), [Sampling(), Sampling(guidance=2.0)])
