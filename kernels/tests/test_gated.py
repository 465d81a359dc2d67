"""SwiGLU and GeGLU against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from anyany_kernels import gated as module
from anyany_kernels.errors import KernelTypeError, KernelValueError
from anyany_kernels.gated import geglu, swiglu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def swiglu_reference(gate_up):
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def geglu_reference(gate_up, approximate="none"):
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate=approximate) * up


FORMS = {
    "swiglu": (swiglu, swiglu_reference),
    "geglu": (geglu, geglu_reference),
    "geglu, tanh": (lambda x: geglu(x, "tanh"), lambda x: geglu_reference(x, "tanh")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("shape", [(2,), (7, 66), (3, 2, 2500), (0, 8)], ids=str)
def test_gate(shape, dtype, form):
    kernel, reference = FORMS[form]
    x = (3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).to(DEVICE, dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    out, want = kernel(x), reference(exact)
    assert out.dtype == dtype
    slope = torch.randn(want.shape, generator=torch.Generator().manual_seed(2)).to(DEVICE, dtype)
    (back,), (true,) = torch.autograd.grad(out, x, slope), torch.autograd.grad(want, exact, slope.double())
    for f, w in ((out, want), (back, true)):
        assert f.shape == w.shape
        assert (f.double() - w).norm() <= LIMITS[dtype] * w.norm().clamp(min=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_far_values(form):
    """No exponential overflows into NaN."""
    kernel, reference = FORMS[form]
    x = torch.tensor([[-200.0, -90, 0, 90, 200, 1, 2, 3, 4, 5]], device=DEVICE, requires_grad=True)
    out, want = kernel(x), reference(x)
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x), torch.autograd.grad(want.sum(), x))


@pytest.mark.parametrize("form", ["silu", "gelu", "gelu_tanh"])
def test_the_operators_are_registered_right(form):
    x = torch.randn(5, 6, device=DEVICE, requires_grad=True)
    torch.library.opcheck(module._gate, (x, form))
    torch.library.opcheck(module._gate_backward, (torch.ones(5, 3, device=DEVICE), x.detach(), form))


def test_bad_input_is_refused():
    with pytest.raises(KernelValueError, match="side by side"):
        swiglu(torch.zeros(3, 5))
    with pytest.raises(KernelTypeError, match="float64"):
        swiglu(torch.zeros(3, 4, dtype=torch.float64))
    with pytest.raises(KernelValueError, match="approximate"):
        geglu(torch.zeros(3, 4), "erf")
