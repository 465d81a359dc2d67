"""Cross-entropy without logits in memory, against the plain form: values, gradients, types and bytes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
import torch.nn.functional as F

from anyany.heads import linear_cross_entropy as module
from anyany.heads.linear_cross_entropy import linear_cross_entropy


def plain(hidden, matrices, targets, weights=None, softcap=0.0):
    logits = torch.cat([F.linear(hidden, matrix) for matrix in matrices], dim=-1)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    each = F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="none")
    return (each if weights is None else each * weights).sum()


def inputs(n, width, sizes, dtype=torch.float32, scale=1.0):
    draw = torch.Generator().manual_seed(n + width)
    hidden = (scale * torch.randn(n, width, generator=draw)).to(dtype).requires_grad_()
    matrices = [torch.randn(v, width, generator=draw).to(dtype).requires_grad_() for v in sizes]
    targets = torch.randint(sum(sizes), (n,), generator=draw)
    weights = torch.rand(n, generator=draw).to(dtype).requires_grad_()
    return hidden, matrices, targets, weights


def both(hidden, matrices, targets, weights, softcap=0.0):
    """Value and gradients of each form, behind a factor as a mean would bring it."""
    leaves = [hidden, *matrices, *([] if weights is None else [weights])]
    for form in (linear_cross_entropy, plain):
        total = form(hidden, matrices, targets, weights, softcap)
        yield total, torch.autograd.grad(total * 0.37, leaves)


@pytest.mark.parametrize("softcap", [0.0, 2.5])
@pytest.mark.parametrize("chunk", [1, 4, 1000])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("n", "width", "sizes"), [(7, 5, (11, 3)), (1, 3, (2,)), (13, 1, (1, 1, 6)), (9, 8, (301, 2))])
def test_values_and_gradients_are_those_of_the_plain_form(monkeypatch, chunk, weighted, n, width, sizes, softcap):
    monkeypatch.setattr(module, "FEWEST", chunk)
    monkeypatch.setattr(module, "LOGITS", 1)
    hidden, matrices, targets, weights = inputs(n, width, sizes, scale=3.0)
    mine, theirs = both(hidden, matrices, targets, weights if weighted else None, softcap)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-5)


def test_no_rows_cost_nothing_and_reach_nothing():
    hidden, matrices, targets, _ = inputs(0, 4, (5, 2))
    total = linear_cross_entropy(hidden, matrices, targets)
    gradients = torch.autograd.grad(total, [hidden, *matrices])
    assert total == 0
    assert [g.shape for g in gradients] == [(0, 4), (5, 4), (2, 4)]
    assert not any(g.any() for g in gradients)


def test_the_gradient_is_that_of_finite_differences(monkeypatch):
    monkeypatch.setattr(module, "FEWEST", 2)
    monkeypatch.setattr(module, "LOGITS", 1)
    hidden, matrices, targets, weights = inputs(5, 3, (4, 2), torch.float64)
    assert torch.autograd.gradcheck(
        lambda h, w, *m: linear_cross_entropy(h, m, targets, w), (hidden, weights, *matrices)
    )


def test_logits_beyond_the_range_of_exponentials():
    hidden = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    matrix = torch.tensor([[1000.0], [-1000.0], [999.0]], requires_grad=True)
    total = linear_cross_entropy(hidden, [matrix], torch.tensor([0, 0]))
    assert total.item() == pytest.approx(float(torch.tensor(-1.0).exp().log1p()) + 2000.0)
    assert all(g.isfinite().all() for g in torch.autograd.grad(total, [hidden, matrix]))


def test_only_what_is_trained_gets_a_gradient():
    hidden, (matrix, calls), targets, weights = inputs(6, 4, (9, 2))
    linear_cross_entropy(hidden, [matrix.detach(), calls], targets, weights.detach()).backward()
    assert matrix.grad is None
    assert calls.grad is not None
    expected = torch.autograd.grad(plain(hidden, [matrix, calls], targets, weights), [hidden, calls])
    torch.testing.assert_close([hidden.grad, calls.grad], list(expected), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert not linear_cross_entropy(hidden, [matrix, calls], targets).requires_grad


def test_one_matrix_for_embedding_and_logits_gets_both_gradients():
    hidden, (matrix,), targets, _ = inputs(6, 4, (9,))
    ids = torch.tensor([0, 3, 3, 8, 1, 2])
    found = [
        torch.autograd.grad(form(hidden * F.embedding(ids, matrix), [matrix], targets), [matrix])[0]
        for form in (linear_cross_entropy, plain)
    ]
    torch.testing.assert_close(*found, rtol=1e-5, atol=2e-5)


def test_under_autocast_products_are_narrow_and_sums_wide(monkeypatch):
    """No further from the float32 result than the plain form under autocast, and gradients in their own type."""
    monkeypatch.setattr(module, "FEWEST", 16)
    monkeypatch.setattr(module, "LOGITS", 1)
    hidden, matrices, targets, _ = inputs(301, 16, (67, 3))
    exact = torch.autograd.grad(plain(hidden, matrices, targets), [hidden, *matrices])
    errors = []
    for form in (linear_cross_entropy, plain):
        with torch.autocast("cpu", torch.bfloat16):
            total = form(hidden, matrices, targets)
        assert total.dtype == torch.float32
        found = torch.autograd.grad(total, [hidden, *matrices])
        assert {g.dtype for g in found} == {torch.float32}
        errors.append([float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)])
    assert max(errors[0]) < 0.02
    assert all(mine < 1.2 * theirs + 1e-4 for mine, theirs in zip(*errors, strict=True))


def test_weights_in_bfloat16_get_gradients_in_bfloat16():
    hidden, matrices, targets, _ = inputs(31, 8, (21, 2), torch.bfloat16)
    total = linear_cross_entropy(hidden, matrices, targets)
    found = torch.autograd.grad(total, [hidden, *matrices])
    exact = torch.autograd.grad(plain(*[x.float() for x in (hidden,)], [m.float() for m in matrices], targets),
                                [hidden, *matrices])  # fmt: skip
    assert total.dtype == torch.float32
    for mine, theirs in zip(found, exact, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine.float() - theirs.float()).norm() < 0.03 * theirs.float().norm()


PEAK = """
    import resource, sys
    import torch, torch.nn.functional as F
    from anyany.heads.linear_cross_entropy import linear_cross_entropy

    rows, vocab, width = 2048, 150_001, 16
    hidden = torch.randn(rows, width, requires_grad=True)
    matrix = torch.randn(vocab, width).mul_(0.02).requires_grad_()
    calls = torch.randn(3, width, requires_grad=True)
    targets = torch.randint(vocab + 3, (rows,))
    linear_cross_entropy(hidden[:2], [matrix[:9], calls], targets[:2] % 9).backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (linear_cross_entropy(hidden, [matrix, calls], targets) / rows).backward()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, rows * vocab * 4)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs")
def test_a_step_takes_a_quarter_of_its_logits_at_most():
    """150,001 outputs, 2,048 rows: logits alone are 1.2 GB, and the plain form holds them three times."""
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(PEAK)], capture_output=True, text=True, check=True)
    taken, logits = map(int, out.stdout.split())
    assert logits > 1.2e9
    assert taken < logits / 4
