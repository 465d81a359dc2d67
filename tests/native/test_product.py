"""The output matrix of text by the native library: what PyTorch gives, for few rows and plain weights."""

from __future__ import annotations

import pytest
import torch

from anyany.errors import NativeError
from anyany.heads.text import TextHead
from anyany.native import choice, library, product

pytestmark = pytest.mark.skipif(library() is None, reason=f"no native library: {choice.why_not()}")


@pytest.fixture(params=[True, False], ids=["tied", "own matrix"])
def head(request) -> TextHead:
    torch.manual_seed(0)
    return TextHead(131, 37, tied=request.param)


def matrix(head: TextHead) -> torch.nn.Module:
    return head.embedding if head.output is None else head.output


@pytest.mark.parametrize("shape", [(37,), (1, 37), (5, 3, 37)])
def test_logits(head, shape, monkeypatch):
    x = torch.randn(shape)
    with torch.inference_mode():
        assert product(matrix(head), x) is not None
        mine = head.logits(x)
        monkeypatch.setenv(choice.VARIABLE, "0")
        torch.testing.assert_close(mine, head.logits(x), rtol=1e-4, atol=1e-4)


def test_logits_in_bfloat16(head, monkeypatch):
    head, x = head.bfloat16(), torch.randn(2, 37).bfloat16()
    with torch.inference_mode():
        mine = head.logits(x)
        monkeypatch.setenv(choice.VARIABLE, "0")
        torch.testing.assert_close(mine, head.logits(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_small_integers_follow_the_weights(head, form):
    head.weights = form
    x = torch.randn(2, 37)
    with torch.inference_mode():
        exact = x @ matrix(head).weight.t()
        near = head.logits(x)
    assert 0 < float((near - exact).norm() / exact.norm()) < (0.02 if form == "int8" else 0.2)
    with torch.no_grad():
        matrix(head).weight.mul_(2)
    with torch.inference_mode():
        torch.testing.assert_close(head.logits(x), 2 * near)


def test_what_learns_and_what_is_many_rows_is_pytorch(head):
    assert product(matrix(head), torch.randn(2, 37)) is None  # gradients are on
    with torch.inference_mode():
        assert product(matrix(head), torch.randn(65, 37)) is None
        assert product(matrix(head), torch.randn(0, 37)) is None
        assert product(matrix(head), torch.randn(2, 37).double()) is None


def test_hooks_are_heeded_and_small_integers_refuse_them(head, monkeypatch):
    x = torch.randn(2, 37)
    matrix(head).register_forward_hook(lambda module, args, out: out * 2)
    with torch.inference_mode():
        assert product(matrix(head), x) is None
        head.weights = "int4"
        with pytest.raises(NativeError, match=r"int4.*hooks"):
            head.logits(x)
        head.weights = "int8"
        monkeypatch.setenv(choice.VARIABLE, "0")
        with pytest.raises(NativeError, match=r"int8.*ANYANY_NATIVE=0"):
            head.logits(x)
