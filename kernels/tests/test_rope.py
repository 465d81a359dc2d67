"""Rotary positions against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch

from anyany_kernels import rope as module
from anyany_kernels.errors import KernelTypeError, KernelValueError
from anyany_kernels.rope import rope

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def reference(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def tables(rows, half):
    """Angles of three axes, a third of the frequencies each."""
    axis = torch.arange(half) * 3 // half
    place = torch.randint(0, 500, (rows, 3), generator=torch.Generator().manual_seed(1))
    angles = place[:, axis] * 100.0 ** (-torch.arange(half) / half)
    return [t[:, None].to(DEVICE, torch.float32) for t in (angles.cos(), angles.sin())]


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 2), (7, 3, 64), (65, 5, 80), (3, 40, 256), (0, 2, 8)], ids=str)
def test_turn(shape, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(DEVICE, dtype).requires_grad_()
    slope = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(DEVICE, dtype)
    cos, sin = tables(shape[0], shape[2] // 2)
    exact = x.detach().double().requires_grad_()
    out, want = rope(x, cos, sin), reference(exact, cos.double(), sin.double())
    assert out.dtype == dtype
    (back,), (true,) = torch.autograd.grad(out, x, slope), torch.autograd.grad(want, exact, slope.double())
    for f, w in ((out, want), (back, true)):
        assert (f.double() - w).norm() <= LIMITS[dtype] * w.norm().clamp(min=1e-9)


def test_slices():
    """Queries and keys of one projection, and an expanded slope."""
    qkv = torch.randn(9, 8, 16, device=DEVICE, requires_grad=True)
    cos, sin = tables(9, 8)
    out = rope(qkv[:, 2:6], cos, sin)
    torch.testing.assert_close(out, reference(qkv[:, 2:6], cos, sin))
    (found,) = torch.autograd.grad(out.sum(), qkv)
    (want,) = torch.autograd.grad(reference(qkv[:, 2:6], cos, sin).sum(), qkv)
    torch.testing.assert_close(found, want)


def test_the_operator_is_registered_right():
    x = torch.randn(5, 3, 8, device=DEVICE, requires_grad=True)
    torch.library.opcheck(module._turn, (x, *tables(5, 4), 1.0))


@pytest.mark.parametrize(
    ("x", "table", "kind", "text"),
    [
        (torch.zeros(3, 2, 7), torch.zeros(3, 1, 3), KernelValueError, "even"),
        (torch.zeros(3, 8), torch.zeros(3, 1, 4), KernelValueError, "T, H, Dh"),
        (torch.zeros(3, 2, 8), torch.zeros(2, 1, 4), KernelValueError, "cos of shape"),
        (torch.zeros(3, 2, 8), torch.zeros(3, 1, 4).half(), KernelTypeError, "cos in float32"),
        (torch.zeros(3, 2, 8).double(), torch.zeros(3, 1, 4), KernelTypeError, "float64"),
        (torch.zeros(3, 8, 2).mT, torch.zeros(3, 1, 4), KernelValueError, "stride 2"),
    ],
)
def test_bad_input_is_refused(x, table, kind, text):
    with pytest.raises(kind, match=text):
        rope(x.to(DEVICE), table.to(DEVICE), table.to(DEVICE))
