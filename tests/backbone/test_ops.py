"""The choice between implementations of attention, and that the core computes the same through the fused one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch

from anyany.backbone import ops
from anyany.backbone.cpu_attention import Tiles
from anyany.errors import KernelError

pytest.importorskip("triton")


@pytest.fixture(autouse=True)
def _chosen_anew(monkeypatch):
    monkeypatch.delenv(ops.VARIABLE, raising=False)
    ops.attention_kernel.cache_clear()
    yield
    ops.attention_kernel.cache_clear()


def test_a_cpu_uses_pytorch():
    kernel, why = ops.attention_kernel("cpu")
    assert kernel is None
    assert "PyTorch" in why
    assert isinstance(ops.plan_attention(torch.zeros(3, 2, 2, dtype=torch.int32)), Tiles)


def test_a_gpu_uses_the_kernel_where_it_runs(monkeypatch):
    monkeypatch.setattr("anyany_kernels.device.architecture", lambda device: "sm_90")
    kernel, why = ops.attention_kernel("cuda")
    assert kernel is not None
    assert kernel.__name__ == "anyany_kernels.interval_attention"
    assert "sm_90" in why


def too_old(device):
    raise RuntimeError("expected compute capability 8.0")


def test_what_cannot_run_falls_back_and_says_why(monkeypatch):
    monkeypatch.setattr("anyany_kernels.device.architecture", too_old)
    assert ops.attention_kernel("cuda") == (None, "PyTorch's own operations are used: expected compute capability 8.0")


def test_a_missing_distribution_falls_back(monkeypatch):
    monkeypatch.setitem(sys.modules, "anyany_kernels", None)
    kernel, why = ops.attention_kernel("cuda")
    assert kernel is None
    assert "anyany_kernels" in why


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_was_asked_for_and_cannot_run_is_an_error(monkeypatch, device):
    monkeypatch.setenv(ops.VARIABLE, "triton")
    monkeypatch.setattr("anyany_kernels.device.architecture", too_old)
    with pytest.raises(KernelError, match=r"cannot run: expected compute capability 8\.0"):
        ops.attention_kernel(device)


def test_pytorch_can_be_asked_for(monkeypatch):
    monkeypatch.setenv(ops.VARIABLE, "torch")
    monkeypatch.setattr("anyany_kernels.device.architecture", lambda device: "sm_90")
    assert ops.attention_kernel("cuda")[0] is None


def test_another_word_is_an_error(monkeypatch):
    monkeypatch.setenv(ops.VARIABLE, "flash")
    with pytest.raises(KernelError, match="got 'flash'"):
        ops.attention_kernel("cpu")


SAME = """
    import os
    import torch
    from anyany.backbone import BackboneConfig, build, interval_attention, ops
    from anyany.errors import KernelError
    from anyany.sequence import Layout, PositionScheme, Span

    def both(run):
        out = []
        for word in ("torch", "triton"):
            os.environ[ops.VARIABLE] = word
            ops.attention_kernel.cache_clear()
            out.append(run())
        for found, want in zip(out[1], out[0], strict=True):
            torch.testing.assert_close(found, want, rtol=1e-4, atol=2e-5)

    torch.manual_seed(0)
    text = Span(component="text", view="text", rows=20)
    seen = Span(component="image/patch", view="features", rows=21, look="full")
    layout = Layout.pack([[text, seen, text], [text, text], [text]], PositionScheme("index"))
    backbone = build(BackboneConfig(width=32, layers=2, heads=4, kv_heads=2, window=(0, 7)))
    rows = torch.randn(len(layout.intervals), 32, requires_grad=True)

    def train():
        out = backbone(rows, layout.coordinates, layout.intervals)
        return [out, *torch.autograd.grad(out.square().sum(), [rows, *backbone.parameters()])]

    @torch.no_grad()
    def infer():
        pool = backbone.new_pool(200)
        first = backbone(rows[:61], layout.coordinates[:61], layout.intervals[:61], cache=pool, slots=slice(0, 61))
        rest = slice(61, len(rows))
        second = backbone(rows[rest], layout.coordinates[rest], layout.intervals[rest], cache=pool, slots=rest)
        return [first, second]

    for run in (train, infer):
        both(run)
    backbone = build(BackboneConfig(width=32, layers=2, heads=4, kv_heads=2, score_cap=2.0, score_scale=0.9))
    both(train)
    assert ops.attention_kernel("cpu")[0].__name__ == "anyany_kernels.interval_attention"
    q = torch.randn(9, 4, 8, dtype=torch.float64)
    try:
        interval_attention(q, q[:, :2], q[:, 2:], layout.intervals[:9])
    except KernelError as error:
        print(error)
"""


@pytest.mark.slow
def test_the_core_computes_the_same_through_the_kernel():
    """Training, a prompt and rows behind it over a pool, capped scores; and float64, which the kernel does not hold."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", textwrap.dedent(SAME)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "does not hold 4 query heads and 2 key heads of 8 numbers in torch.float64" in done.stdout


def test_what_the_kernel_does_not_hold_goes_through_pytorch(monkeypatch):
    """Unless the kernel was asked for."""
    kernel = SimpleNamespace(fits=lambda q, k: False)
    q, intervals = torch.randn(3, 2, 4), torch.tensor([[[0, 0], [0, i + 1]] for i in range(3)], dtype=torch.int32)
    with monkeypatch.context() as patched:
        patched.setattr(ops, "attention_kernel", lambda device: (kernel, ""))
        found = ops.interval_attention(q, q, q, intervals)
        torch.testing.assert_close(found, ops.tiled_attention(q, q, q, Tiles.of(intervals), 0.5))
        patched.setenv(ops.VARIABLE, "triton")
        with pytest.raises(KernelError, match="does not hold 2 query heads"):
            ops.interval_attention(q, q, q, intervals)
