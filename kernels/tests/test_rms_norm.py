"""RMSNorm, alone and behind a sum, against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from anyany_kernels import rms_norm as module
from anyany_kernels.errors import KernelTypeError, KernelValueError
from anyany_kernels.rms_norm import add_rms_norm, rms_norm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
EPS = 1e-5


def reference(x, weight, eps):
    return F.rms_norm(x, weight.shape, weight, eps)


def add_reference(x, residual, weight, eps):
    total = x + residual
    return reference(total, weight, eps), total


def drawn(shape, dtype, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype).requires_grad_()


def close(found, want, dtype):
    for f, w in zip(found, want, strict=True):
        assert f.dtype == dtype
        assert (f.double() - w).norm() <= LIMITS[dtype] * w.norm().clamp(min=1.0)  # a single number has no slope


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("shape", [(1,), (7, 64), (3, 5, 100), (257, 33), (2, 5000), (0, 8)], ids=str)
def test_norm(shape, dtype):
    x, weight, slope = drawn(shape, dtype), drawn(shape[-1:], dtype, 1), drawn(shape, dtype, 2)
    exact = [t.detach().double().requires_grad_() for t in (x, weight)]
    out, want = rms_norm(x, weight, EPS), reference(*exact, EPS)
    close([out], [want], dtype)
    close(torch.autograd.grad(out, (x, weight), slope), torch.autograd.grad(want, exact, slope.double()), dtype)


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)], ids=["norm", "sum", "both"])
def test_sum_and_norm(used, dtype):
    x, residual, weight = drawn((67, 48), dtype), drawn((67, 48), dtype, 1), drawn((48,), dtype, 2)
    slopes = [drawn((67, 48), dtype, 3), drawn((67, 48), dtype, 4)]
    exact = [t.detach().double().requires_grad_() for t in (x, residual, weight)]
    found, want = add_rms_norm(x, residual, weight, EPS), add_reference(*exact, EPS)
    close(found, want, dtype)

    def gradients(outputs, inputs, wide):
        kept = [(outputs[i], slopes[i].double() if wide else slopes[i]) for i in used]
        asked = inputs if used != (1,) else inputs[:2]
        return torch.autograd.grad([o for o, _ in kept], asked, [s for _, s in kept])

    close(gradients(found, [x, residual, weight], False), gradients(want, exact, True), dtype)


def test_slices():
    x = torch.randn(9, 6, 16, device=DEVICE)[:, :4]
    weight = torch.randn(16, device=DEVICE)
    torch.testing.assert_close(rms_norm(x, weight, EPS), reference(x, weight, EPS))


def test_the_backward_pass_is_the_same_bit_for_bit():
    x, weight = drawn((300, 40), torch.float32), drawn((40,), torch.float32, 1)
    first, second = (torch.autograd.grad(rms_norm(x, weight, EPS).sum(), (x, weight)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_operators_are_registered_right():
    x, weight = drawn((5, 12), torch.float32), drawn((12,), torch.float32, 1)
    torch.library.opcheck(module._norm, (x, None, weight, EPS))
    torch.library.opcheck(module._norm, (x, drawn((5, 12), torch.float32, 2), weight, EPS))
    plain = torch.ones(5, 12, device=DEVICE), None, x.detach(), weight.detach(), torch.ones(5, device=DEVICE)
    torch.library.opcheck(module._norm_backward, plain)


@pytest.mark.parametrize(
    ("x", "weight", "kind", "text"),
    [
        (torch.zeros(3, 4), torch.zeros(5), KernelValueError, "weight of shape"),
        (torch.zeros(3, 4), torch.zeros(4).half(), KernelTypeError, "float16"),
        (torch.zeros(3, 4).double(), torch.zeros(4).double(), KernelTypeError, "float64"),
        (torch.zeros(1, 40000), torch.zeros(40000), KernelValueError, "1 to 32768"),
        (torch.zeros(()), torch.zeros(1), KernelValueError, "one axis"),
    ],
)
def test_bad_input_is_refused(x, weight, kind, text):
    with pytest.raises(kind, match=text):
        rms_norm(x, weight, EPS)
    with pytest.raises(KernelValueError, match="residual of shape"):
        add_rms_norm(torch.zeros(3, 4), torch.zeros(4, 3), torch.zeros(4), EPS)
