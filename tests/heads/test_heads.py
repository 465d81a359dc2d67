"""Every head: what it learns from, what it samples, and that the two are the same distribution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from anyany.errors import GuidanceError, PluginError
from anyany.heads import build
from anyany.heads.base import boundaries, end_loss
from anyany.heads.steps import EmitContext, Fork, Join, Result, Sampling, Step
from anyany.plugin import Codes, Plan, Vectors

WIDTH = 16
KINDS = {
    "discrete": Codes(vocab=5), "depth": Codes(vocab=4, books=3), "regression": Vectors(dim=3),
    "embedding": Vectors(dim=3, objective="embedding"), "flow": Vectors(dim=3, objective="flow"),
    "flow-span": Vectors(dim=3, objective="flow-span"),
}  # fmt: skip
ROW_BY_ROW = [name for name in KINDS if name != "flow-span"]
GREEDY = Sampling(temperature=0.0)


def make(kind: str):
    torch.manual_seed(0)
    head = build(KINDS[kind], WIDTH)
    for parameter in head.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(3)
    return head


def latents_of(kind: str, n: int, seed: int = 0) -> torch.Tensor:
    draw = generator(seed)
    spec = KINDS[kind]
    if isinstance(spec, Codes):
        return torch.randint(0, spec.vocab, (n, spec.books), generator=draw)
    return torch.randn(n, spec.dim, generator=draw)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hidden_of(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, WIDTH, generator=generator(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_embed_gives_one_row_per_latent_and_no_row_depends_on_another(kind):
    head, latents = make(kind), latents_of(kind, 6)
    rows = head.embed(latents)
    assert rows.shape == (6, WIDTH)
    for i in range(6):
        torch.testing.assert_close(head.embed(latents[i : i + 1])[0], rows[i])
    assert len(rows.unique(dim=0)) == len(latents.unique(dim=0)) > 1


@pytest.mark.parametrize("kind", [k for k in ROW_BY_ROW if k != "flow"])  # flow draws noise for the whole batch
@pytest.mark.parametrize("fixed", [True, False])
def test_the_loss_of_a_batch_is_the_sum_over_spans(kind, fixed):
    head, lengths = make(kind), [3, 1, 4]
    latents, hidden = latents_of(kind, 8), hidden_of(11)
    whole = head.loss(hidden, latents, lengths, fixed)
    parts, rows, at, row = 0.0, 0, 0, 0
    for n in lengths:
        one = head.loss(hidden[row : row + n + 1], latents[at : at + n], [n], fixed)
        parts, rows, at, row = parts + one.total, rows + one.rows, at + n, row + n + 1
    torch.testing.assert_close(whole.total, parts)
    assert whole.rows == rows


@pytest.mark.parametrize("kind", ROW_BY_ROW)
def test_every_weight_that_samples_is_trained(kind):
    head = make(kind)
    head.loss(hidden_of(9), latents_of(kind, 7), [4, 3], False).total.backward()
    untouched = {name for name, p in head.named_parameters() if p.grad is None}
    embeds = {n for n, _ in head.named_parameters() if n.startswith(("codes.", "embedding."))}
    assert untouched == {"begin", "end", "call"} | embeds


@pytest.mark.parametrize("kind", ROW_BY_ROW)
def test_a_fixed_span_teaches_nothing_about_its_end(kind):
    head = make(kind)
    head.loss(hidden_of(4), latents_of(kind, 3), [3], True).total.backward()
    stop = getattr(head, "stop", None)
    if stop is not None:
        assert stop.weight.grad is None
    else:
        assert head.logits.weight.grad[-1].abs().max() == 0


def test_no_span_ends_at_its_begin_mark():
    logits = torch.randn(6, generator=generator(0))
    expected = 0.0
    for row, target in ((1, 0.0), (2, 1.0), (4, 0.0), (5, 1.0)):  # rows 0 and 3 are begin marks
        expected += float(F.binary_cross_entropy_with_logits(logits[row], torch.tensor(target)))
    assert float(end_loss(logits, [2, 2])) == pytest.approx(expected, rel=1e-5)
    rows, last = boundaries([2, 2], torch.device("cpu"))
    assert rows.tolist() == [0, 1, 3, 4]
    assert last.tolist() == [2, 5]


@pytest.mark.parametrize("kind", ["discrete", "depth"])
@pytest.mark.parametrize("fixed", [True, False])
def test_the_loss_is_minus_the_log_probability_of_the_picks(kind, fixed):
    """Walk spans with ``pick`` until they end; ``loss`` on the same rows gives the same number."""
    head, hidden = make(kind), hidden_of(40)
    ended = set()
    with torch.no_grad():
        for seed in range(12):
            draw, made, total, end = generator(seed), [], 0.0, False
            while not end and len(made) < (5 if fixed else 39):
                picked = head.pick(hidden[len(made)][None, None], [Sampling()], [draw], [not fixed and bool(made)])
                total, end = total + float(picked.logprob), bool(picked.end)
                if not end:
                    made.append(picked.latents[0])
            loss = head.loss(hidden[: len(made) + 1], torch.stack(made), [len(made)], fixed)
            if fixed or end:
                ended.add(len(made))
                assert total == pytest.approx(-float(loss.total), rel=1e-4)
    assert ended == {5} if fixed else len(ended) > 2


@pytest.mark.parametrize("kind", ROW_BY_ROW)
def test_no_pick_depends_on_its_neighbours(kind):
    head, hidden = make(kind), hidden_of(5, 1)
    rules = [Sampling(steps=2), Sampling(temperature=0.0), Sampling(top_k=2, steps=9), Sampling(temperature=2.0),
             Sampling(steps=4)]  # fmt: skip
    states = [True, True, False, True, False]
    with torch.no_grad():
        together = head.pick(hidden, rules, [generator(i) for i in range(5)], states)
        for i in range(5):
            alone = head.pick(hidden[i : i + 1], [rules[i]], [generator(i)], [states[i]])
            torch.testing.assert_close(alone.latents[0], together.latents[i], atol=1e-4, rtol=1e-4)
            assert bool(alone.end) == bool(together.end[i])
    assert not bool(together.end[2])
    assert not bool(together.end[4])


@pytest.mark.parametrize("kind", ROW_BY_ROW)
def test_the_same_seed_gives_the_same_pick_and_another_seed_another(kind):
    head, hidden = make(kind), hidden_of(1, 1)
    with torch.no_grad():
        picks = [head.pick(hidden, [Sampling()], [generator(s)], [False]).latents for s in (1, 1, *range(2, 40))]
        assert torch.equal(picks[0], picks[1])
        varied = any(not torch.equal(picks[0], p) for p in picks[2:])
        assert varied == (kind != "embedding")  # a regression to one vector is deterministic
        greedy = [head.pick(hidden, [GREEDY], [generator(s)], [False]).latents for s in range(8)]
    assert all(torch.equal(greedy[0], g) for g in greedy)


def test_greedy_codes_are_the_largest_logits():
    head, hidden = make("discrete"), hidden_of(7, 1)
    picked = head.pick(hidden, [GREEDY] * 7, [generator(0)] * 7, [False] * 7)
    assert picked.latents[:, 0].tolist() == head.logits(hidden[:, 0])[:, :-1].argmax(-1).tolist()


def test_books_follow_each_other():
    """The second book is drawn given the first: teacher-forcing another first book changes its logits."""
    head, hidden = make("depth"), hidden_of(2)
    first, second = torch.tensor([[0, 1, 2]]), torch.tensor([[3, 1, 2]])
    with torch.no_grad():
        losses = [float(head.loss(hidden, codes, [1], True).total) for codes in (first, second)]
        start = head.logits[0](torch.tanh(head.first(hidden[:1])))
        own = [float(F.cross_entropy(start, codes[:, 0])) for codes in (first, second)]
    assert losses[0] - own[0] != pytest.approx(losses[1] - own[1], abs=1e-3)


@pytest.mark.parametrize("kind", ROW_BY_ROW)
def test_guidance_moves_the_pick_by_its_formula(kind):
    """Guidance 1 is the conditional branch, 0 the unconditional one, whatever the head samples."""
    head = make(kind)
    both = hidden_of(1, 2)
    with torch.no_grad():

        def pick(hidden, strength):
            rule = Sampling(temperature=0.0, guidance=strength)
            return head.pick(hidden, [rule], [generator(0)], [False]).latents

        torch.testing.assert_close(pick(both, 1.0), pick(both[:, :1], 1.0), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(pick(both, 0.0), pick(both[:, 1:], 1.0), atol=1e-4, rtol=1e-4)
        with pytest.raises(GuidanceError):
            pick(both[:, :1], 2.0)
        if kind in ("embedding", "regression"):
            c, u = pick(both, 1.0), pick(both, 0.0)
            torch.testing.assert_close(pick(both, 3.0), u + 3 * (c - u))
        if kind == "discrete":
            logits = head.logits(both[0])[:, :-1]
            assert int(pick(both, 3.0)) == int((logits[1] + 3 * (logits[0] - logits[1])).argmax())


def test_flow_integrates_its_own_velocity():
    """Midpoint steps from the seeded noise, done by hand; the loss falls when the velocity is right."""
    head, hidden = make("flow"), hidden_of(1, 1)
    steps = 5
    with torch.no_grad():
        picked = head.pick(hidden, [Sampling(steps=steps)], [generator(4)], [False]).latents
        x = torch.randn(3, generator=generator(4))[None]
        for i in range(steps):
            t = torch.full((1,), i / steps)
            middle = x + 0.5 / steps * head.velocity(x, t, hidden[0])
            x = x + head.velocity(middle, t + 0.5 / steps, hidden[0]) / steps
    torch.testing.assert_close(picked, head.scale.inverse(x), atol=1e-5, rtol=1e-5)


def test_noised_rows_lie_on_the_straight_path():
    head, latents = make("flow-span"), latents_of("flow-span", 5)
    head.fit(latents * 4 + 2)
    rows, target = head.noise(latents, [2, 3], generator(1))
    draw = generator(1)
    noise = torch.randn(5, 3, generator=draw)
    t = torch.sigmoid(torch.randn(2, generator=draw)).repeat_interleave(torch.tensor([2, 3]))
    data = head.scale(latents)
    torch.testing.assert_close(target, data - noise)
    torch.testing.assert_close(rows, head.rows((1 - t[:, None]) * noise + t[:, None] * data, t))
    perfect = head.loss_noised(hidden_of(5), head.leave(hidden_of(5)))
    assert float(perfect.total.detach()) == 0
    assert perfect.rows == 5


@pytest.mark.parametrize("kind", ["regression", "embedding", "flow", "flow-span"])
def test_the_scale_is_that_of_the_data(kind):
    head = make(kind)
    data = torch.randn(500, 3, generator=generator(0)) * torch.tensor([5.0, 0.1, 0.0]) + torch.tensor([1.0, -2.0, 7.0])
    data[::7, 0] = float("nan")
    head.fit(data)
    torch.testing.assert_close(head.scale.mean, data.nanmean(dim=0))
    assert head.scale.std.tolist() == pytest.approx([5.0, 0.1, 1.0], rel=0.1)  # a constant column is not blown up
    torch.testing.assert_close(head.scale.inverse(head.scale(data[1:2])), data[1:2])


def test_missing_numbers_are_left_out_of_the_regression():
    head, hidden, latents = make("regression"), hidden_of(4), latents_of("regression", 3)
    gaps = latents.clone()
    gaps[0, 1] = gaps[2] = float("nan")
    hidden.requires_grad_()
    loss = head.loss(hidden, gaps, [3], True).total
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(hidden.grad).all()
    assert hidden.grad[2].abs().max() == 0  # nothing of this row is known
    levels, expected = head.levels, 0.0
    guesses = head.quantiles(hidden.detach()[:3]).detach()
    for row, dims in ((0, (0, 2)), (1, (0, 1, 2))):
        errors = torch.stack([latents[row, d] - guesses[row, d] for d in dims])
        expected += 2 * float(torch.maximum(levels * errors, (levels - 1) * errors).mean())
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(head.embed(gaps)).all()
    assert not torch.allclose(head.embed(gaps)[0], head.embed(gaps.nan_to_num(0.0))[0])  # missing is not zero


@pytest.mark.parametrize("kind", ["embedding", "flow", "flow-span"])
def test_missing_numbers_are_left_out_of_every_loss_of_vectors(kind):
    head, gaps = make(kind), latents_of(kind, 3)
    gaps[0, 1] = gaps[2] = float("nan")
    hidden = hidden_of(4).requires_grad_()

    def loss() -> torch.Tensor:
        if kind != "flow-span":
            torch.manual_seed(0)
            return head.loss(hidden, gaps, [3], True).total
        rows, target = head.noise(gaps, [3], generator(0))
        assert torch.isfinite(rows).all()
        return head.loss_noised(hidden[:3], target).total

    total = loss()
    total.backward()
    assert torch.isfinite(total)
    assert hidden.grad[2].abs().max() == 0  # nothing of this row is known
    assert hidden.grad[0].abs().max() > 0
    last = head.leave if kind == "flow-span" else head.velocity.leave if kind == "flow" else head.vector[-1]
    with torch.no_grad():
        last.bias[1] += 1.0  # moves a number that row 0 lacks
        moved = [loss() - total.detach()]
        gaps[1, 1] = float("nan")
        without = loss()
        last.bias[1] += 1.0
        moved.append(loss() - without)
    assert abs(float(moved[0])) > 1e-3
    assert float(moved[1]) == pytest.approx(0.0, abs=1e-5)  # nobody has it: it weighs nothing


@pytest.mark.parametrize("quantiles", [(0.5,), (0.1, 0.5, 0.9), (0.9, 0.1, 0.5)])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_regression_draws_between_its_quantiles(quantiles, temperature):
    torch.manual_seed(0)
    head = build(Vectors(dim=3, quantiles=quantiles), WIDTH)
    hidden = hidden_of(4, 1)
    picked = head.pick(hidden, [Sampling(temperature=temperature)] * 4, [generator(i) for i in range(4)], [False] * 4)
    levels = picked.extra["quantiles"]
    assert levels.shape == (4, 3, len(quantiles))
    assert (picked.latents >= levels.amin(-1) - 1e-6).all()
    assert (picked.latents <= levels.amax(-1) + 1e-6).all()
    if temperature == 0:
        torch.testing.assert_close(picked.latents, levels[..., len(quantiles) // 2])


# The conversation.


def context(rule: Sampling, *, fixed: bool, rows: int = 4, unconditional=None, push=lambda z: None) -> EmitContext:
    return EmitContext(
        plan=Plan(rows=rows, fixed=fixed), at=lambda a, b: torch.arange(a, b)[:, None].expand(-1, 3).float(),
        begin=torch.zeros(1, 3), rule=rule, push=push, draw=generator(0), unconditional=unconditional,
    )  # fmt: skip


def talk(emission, answer):
    """Drive an emission; ``answer(step)`` stands for the engine. Returns the latents and what was asked."""
    asks, reply = [], None
    try:
        while True:
            ask = emission.send(reply)
            asks.append(ask)
            reply = answer(ask) if isinstance(ask, Step) else Result()
    except StopIteration as stop:
        return stop.value, asks


@pytest.mark.parametrize("kind", ROW_BY_ROW)
def test_emit_feeds_back_what_it_made(kind):
    head, pushed = make(kind), []

    def answer(step: Step) -> Result:
        hidden = hidden_of(1, 1, seed=int(step.coordinates[0, 0]) + 1)
        if step.pick is None:
            return Result(hidden)
        picked = head.pick(hidden, [step.pick.rule], [generator(7)], [step.pick.state])
        return Result(hidden, latents=picked.latents[0], end=bool(picked.end))

    with torch.no_grad():
        latents, asks = talk(head.emit(context(GREEDY, fixed=True, push=pushed.append)), answer)
        assert len(latents) == 4
        assert torch.equal(torch.cat(pushed), latents)
        torch.testing.assert_close(
            torch.cat([a.rows for a in asks]), torch.cat([head.begin[None], head.embed(latents)])
        )
    assert all(a.keep for a in asks)
    assert asks[-1].pick is None  # the last latent enters the sequence, nothing is drawn from it


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_opens_a_branch_and_closes_it(kind):
    head = make(kind)
    bare = (torch.zeros(2, WIDTH), torch.zeros(2, 3))

    def answer(step: Step) -> Result:
        hidden = hidden_of(2, len(step.rows))
        if step.pick is None:
            return Result(hidden)
        picked = head.pick(hidden[None, :, -1], [step.pick.rule], [generator(7)], [step.pick.state])
        return Result(hidden, latents=picked.latents[0], end=bool(picked.end))

    with torch.no_grad():
        _, asks = talk(head.emit(context(Sampling(guidance=3.0), fixed=True, unconditional=bare)), answer)
        assert isinstance(asks[0], Fork)
        assert asks[0].share == 0
        assert isinstance(asks[-1], Join)
        with pytest.raises(GuidanceError, match="no unconditional branch"):
            next(head.emit(context(Sampling(guidance=3.0), fixed=True)))


def test_span_flow_tries_then_keeps():
    head, rule = make("flow-span"), Sampling(steps=6, temperature=0.5)
    with torch.no_grad():
        latents, asks = talk(head.emit(context(rule, fixed=True)), lambda step: Result(hidden_of(1, len(step.rows))))
        begin, *trials, last = asks
        assert torch.equal(begin.rows, head.begin[None])
        assert [t.keep for t in trials] == [False] * 6
        assert all(t.look == "full" for t in [*trials, last])
        assert last.keep
        torch.testing.assert_close(last.rows, head.embed(latents))
        velocity = head.leave(hidden_of(1, 4))[0]  # the same at every step here, so the path is a straight line
        noise = 0.5 * torch.randn(4, 3, generator=generator(0))
        torch.testing.assert_close(latents, head.scale.inverse(noise + velocity), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("latents", [object(), Vectors(dim=3, objective="telepathy")])
def test_latents_of_no_known_kind(latents):
    with pytest.raises(PluginError, match="head"):
        build(latents, WIDTH)


def test_options_of_another_head():
    with pytest.raises(PluginError, match="inner"):
        build(Codes(vocab=4), WIDTH, inner=3)
