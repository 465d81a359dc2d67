"""Chunked cross-entropy of a linear layer against whole logits in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from anyany_kernels import linear_cross_entropy as module
from anyany_kernels.errors import KernelTypeError, KernelValueError
from anyany_kernels.linear_cross_entropy import linear_cross_entropy

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def reference(hidden, matrices, targets, weights=None):
    losses = F.cross_entropy(hidden @ torch.cat(list(matrices)).mT, targets, reduction="none")
    return (losses if weights is None else losses * weights).sum()


def drawn(rows, width, outputs, dtype):
    draw = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, width, generator=draw).to(DEVICE, dtype).requires_grad_()
    matrices = [(torch.randn(n, width, generator=draw) / 4).to(DEVICE, dtype).requires_grad_() for n in outputs]
    targets = torch.randint(0, sum(outputs), (rows,), generator=draw).to(DEVICE)
    return hidden, matrices, targets, torch.rand(rows, generator=draw).to(DEVICE).requires_grad_()


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize(
    ("rows", "width", "outputs"), [(1, 8, (1,)), (33, 16, (33,)), (19, 8, (20, 5, 4100)), (35, 24, (70,))]
)
def test_loss_and_gradients(monkeypatch, rows, width, outputs, dtype):
    monkeypatch.setattr(module, "FEWEST", 8)  # several chunks
    hidden, matrices, targets, weights = drawn(rows, width, outputs, dtype)
    inputs = [hidden, *matrices, weights]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    found = linear_cross_entropy(hidden, matrices, targets, weights)
    want = reference(exact[0], exact[1:-1], targets, exact[-1])
    assert (found - want).abs() <= LIMITS[dtype] * want.abs().clamp(min=1)
    pairs = zip(torch.autograd.grad(3 * found, inputs), torch.autograd.grad(3 * want, exact), inputs, strict=True)
    for f, w, x in pairs:
        assert f.dtype == x.dtype
        assert (f.double() - w).norm() <= LIMITS[dtype] * w.norm().clamp(min=1e-3)


def test_without_gradients_nothing_is_kept():
    hidden, matrices, targets, weights = drawn(30, 8, (40,), torch.float32)
    with torch.no_grad():
        found = linear_cross_entropy(hidden, matrices, targets)
    torch.testing.assert_close(found, reference(hidden, matrices, targets).detach())
    sizes = [x.numel() for x in module._loss(hidden.detach(), matrices, targets, weights, False, False)]
    assert sizes == [1, 30, 0, 0]


@pytest.mark.parametrize("frozen", ["hidden", "matrices"])
def test_what_is_frozen_has_no_gradient(frozen):
    hidden, matrices, targets, weights = drawn(30, 8, (40, 3), torch.float32)
    for x in [hidden] if frozen == "hidden" else matrices:
        x.requires_grad_(False)
    learns = [x for x in (hidden, *matrices) if x.requires_grad]
    found = torch.autograd.grad(linear_cross_entropy(hidden, matrices, targets, weights), learns)
    want = torch.autograd.grad(reference(hidden, matrices, targets, weights), learns)
    for f, w in zip(found, want, strict=True):
        torch.testing.assert_close(f, w, rtol=1e-4, atol=1e-5)


def test_far_logits():
    hidden = torch.tensor([[1000.0], [-1000.0]], device=DEVICE, requires_grad=True)
    matrix = torch.tensor([[1.0], [-1.0], [0.0]], device=DEVICE)
    targets = torch.tensor([0, 2], device=DEVICE)
    found = linear_cross_entropy(hidden, [matrix], targets)
    want = reference(hidden, [matrix], targets)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(torch.autograd.grad(found, hidden), torch.autograd.grad(want, hidden))


@pytest.mark.parametrize("target", [-100, 40])
def test_a_target_that_is_none_makes_the_sum_nan(target):
    hidden, matrices, targets, _ = drawn(9, 8, (40,), torch.float32)
    targets[4] = target
    assert linear_cross_entropy(hidden, matrices, targets).isnan()


def test_no_rows():
    hidden, matrices, targets, _ = drawn(0, 8, (40,), torch.float32)
    loss = linear_cross_entropy(hidden, matrices, targets)
    assert loss == 0
    assert not torch.autograd.grad(loss, matrices)[0].any()


@pytest.mark.parametrize("asked", [(True, True), (True, False), (False, False)], ids=str)
def test_the_operator_is_registered_right(asked):
    hidden, matrices, targets, weights = drawn(7, 8, (20, 3), torch.float32)
    if not asked[1]:
        matrices = [m.detach() for m in matrices]
    if not asked[0]:
        hidden = hidden.detach()
    torch.library.opcheck(module._loss, (hidden, matrices, targets, weights, *asked))


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"hidden": torch.zeros(4, 8, 1)}, KernelValueError, "hidden states"),
        ({"matrices": []}, KernelValueError, "0 matrices"),
        ({"matrices": [torch.zeros(5, 7)]}, KernelValueError, "matrices\\[0\\] of shape"),
        ({"matrices": [torch.zeros(5, 8).half()]}, KernelTypeError, "float16"),
        ({"targets": torch.zeros(3, dtype=torch.long)}, KernelValueError, "targets of shape"),
        ({"targets": torch.zeros(4, dtype=torch.int32)}, KernelTypeError, "int64"),
        ({"weights": torch.zeros(4).double()}, KernelTypeError, "float64"),
    ],
)
def test_bad_input_is_refused(changes, kind, text):
    given = {"hidden": torch.zeros(4, 8), "matrices": [torch.zeros(5, 8)], "targets": torch.zeros(4, dtype=torch.long)}
    given = {name: [m.to(DEVICE) for m in x] if name == "matrices" else x.to(DEVICE)
             for name, x in (given | changes).items()}  # fmt: skip
    with pytest.raises(kind, match=text):
        linear_cross_entropy(**given)
