"""What is checked before a launch."""

from __future__ import annotations

import pytest
import torch

from anyany_kernels.checks import check_floats, check_place, check_shape
from anyany_kernels.errors import KernelTypeError, KernelUnavailableError, KernelValueError

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
X = torch.zeros(6, 8, device=DEVICE)


def test_what_is_right_passes():
    check_floats("k", x=X, y=X[:, :3], z=X[::2], none=X[:0], one=X[:, :1])
    check_place("k", x=X, rows=torch.zeros(3, dtype=torch.int64, device=DEVICE))
    check_shape("k", "x", X, 6, 8)


@pytest.mark.parametrize(
    ("y", "kind", "text"),
    [
        (X.half(), KernelTypeError, "x is torch.float32, y is torch.float16"),
        (X.to("meta"), KernelTypeError, "y on meta"),
        (X[:, ::2], KernelValueError, "the last axis of y has stride 2"),
        (X[:1, :1].expand(4, 4), KernelValueError, "stride 0"),
    ],
)
def test_what_is_wrong_is_named(y, kind, text):
    with pytest.raises(kind, match=text):
        check_floats("k", x=X, y=y)


def test_types_that_no_kernel_reads():
    for kind in (torch.float64, torch.int32, torch.complex64):
        with pytest.raises(KernelTypeError, match="expected float16, bfloat16 or float32"):
            check_floats("k", x=X.to(kind))


def test_a_device_without_kernels():
    with pytest.raises(KernelUnavailableError, match="meta"):
        check_floats("k", x=X.to("meta"))


def test_more_elements_than_offsets_reach(monkeypatch):
    """Between the first and the last element, which a view can put far apart."""
    monkeypatch.setattr("anyany_kernels.checks.LARGEST", 48)
    check_place("k", x=X[:, :7][:6])
    with pytest.raises(KernelValueError, match="x reaches over 48 elements"):
        check_place("k", x=X)


def test_shapes():
    with pytest.raises(KernelValueError, match=r"k: expected x of shape \(6, 7\), got \(6, 8\)"):
        check_shape("k", "x", X, 6, 7)
