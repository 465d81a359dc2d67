"""The text head: its loss, bans, and the penalty on repetition."""

from __future__ import annotations

import pytest
import torch

from anyany.heads import TextHead
from anyany.heads.steps import Sampling
from anyany.heads.text import TextPicker, TextState

WIDTH = 16
GREEDY = Sampling(temperature=0.0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hidden_of(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, WIDTH, generator=generator(seed))


def text_head(tied: bool = True, **options: float) -> TextHead:
    torch.manual_seed(0)
    return TextHead(11, WIDTH, tied=tied, **options)


@pytest.mark.parametrize("softcap", [0.0, 0.5])
@pytest.mark.parametrize("tied", [True, False])
def test_text_loss_is_minus_the_log_probability_of_the_picks(tied, softcap):
    head, hidden, calls = text_head(tied, softcap=softcap), hidden_of(6) * 9, hidden_of(2, seed=8)
    picker = TextPicker(head, calls)
    picked = picker.pick(hidden[:, None], [Sampling()] * 6, [generator(i) for i in range(6)], [TextState()] * 6)
    loss = head.loss(hidden, picked.latents, calls)
    torch.testing.assert_close(-loss.total, picked.logprob.sum())
    assert loss.rows == 6
    weights = torch.tensor([1.0, 0, 0, 0, 0, 0])
    torch.testing.assert_close(head.loss(hidden, picked.latents, calls, weights).total, -picked.logprob[0])


def test_a_cap_and_a_scale():
    plain, bent, hidden = text_head(), text_head(softcap=0.5, scale=3.0), hidden_of(4) * 9
    torch.testing.assert_close(bent.logits(hidden), 0.5 * torch.tanh(plain.logits(hidden) / 0.5))
    assert plain.logits(hidden).abs().max() > 0.5
    torch.testing.assert_close(bent.embed(torch.tensor([3, 7])), 3 * plain.embed(torch.tensor([3, 7])))


def test_a_ban_changes_the_choice_but_not_the_log_probability_of_what_was_chosen():
    head, hidden = text_head(), hidden_of(1, 1) * 9
    picker = TextPicker(head, torch.empty(0, WIDTH))
    best = int(picker.pick(hidden, [GREEDY], [generator(0)], [TextState()]).latents)
    allowed = torch.ones(11, dtype=torch.bool)
    allowed[best] = False
    picked = picker.pick(hidden, [GREEDY], [generator(0)], [TextState(allowed)])
    order = head.logits(hidden[0, 0]).argsort(descending=True)
    assert int(picked.latents) == int(order[1])
    torch.testing.assert_close(picked.logprob[0], head.logits(hidden[0, 0]).log_softmax(-1)[order[1]])


def test_the_repetition_penalty_divides_what_was_said():
    head, hidden = text_head(), hidden_of(2, 1) * 9
    picker = TextPicker(head, torch.empty(0, WIDTH))
    logits = head.logits(hidden[0, 0])
    seen = torch.zeros(11, dtype=torch.bool)
    seen[logits.argmax()] = True
    rule = Sampling(temperature=0.0, repetition_penalty=100.0)
    picked = picker.pick(hidden, [rule, GREEDY], [generator(0)] * 2, [TextState(seen=seen), TextState(seen=seen)])
    expected = torch.where(seen, torch.where(logits > 0, logits / 100, logits * 100), logits)
    assert int(picked.latents[0]) == int(expected.argmax()) != int(logits.argmax())
    assert int(picked.latents[1]) == int(head.logits(hidden[1, 0]).argmax())  # without a penalty nothing changes


def test_marks_that_mean_the_same_add_up():
    """The end is ruled out, but what the model gives to it counts for the mark that stands for it."""
    head = TextHead(5, 4)
    picker = TextPicker(head, torch.zeros(2, 4))  # marks 5 and 6; 4 is an end mark
    scores = torch.tensor([[0.0, 2.0, 0.0, 0.0, 1.5, 1.4, 0.3]])
    picker.logits = lambda hidden: scores[:, None].expand(len(hidden), 1, -1).clone()
    allowed = torch.tensor([True, True, True, True, False, False, True])
    rules, draws = [Sampling(temperature=0.0)], [torch.Generator()]
    alone = picker.pick(torch.zeros(1, 1, 4), rules, draws, [TextState(allowed)])
    assert alone.latents.tolist() == [1]
    merged = picker.pick(torch.zeros(1, 1, 4), rules, draws, [TextState(allowed, leaving=torch.tensor([6, 4, 5]))])
    assert merged.latents.tolist() == [6]
    assert float(scores[0, [4, 5, 6]].logsumexp(0)) > 2.0
    assert torch.allclose(merged.logprob, scores.log_softmax(-1)[:, 6])  # as the model has it, nothing merged
    both = picker.pick(
        torch.zeros(2, 1, 4),
        rules * 2,
        draws * 2,
        [TextState(allowed), TextState(allowed, leaving=torch.tensor([6, 4, 5]))],
    )
    assert both.latents.tolist() == [1, 6]
