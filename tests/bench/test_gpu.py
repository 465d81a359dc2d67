"""The lines for a GPU, small, with the kernels under Triton's interpreter: both sides of each give the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from anyany.bench import gpu, gpu_attention, gpu_fused, suite
from anyany.errors import KernelError

SMALL = """
import json, torch
from torch.nn.attention import SDPBackend
from anyany.bench import gpu, gpu_attention, gpu_fused

gpu.DEVICE, gpu.DTYPE, gpu.REPEATS = "cpu", torch.float32, 1
attention, fused = gpu_attention, gpu_fused
attention.ROWS, attention.HEADS, attention.WIDTH, attention.DOCUMENT, attention.SPAN = 256, 2, 64, 64, 16
attention.SIDE, attention.LAYOUTS = 64, 2
attention.SDPBackend.CUDNN_ATTENTION = attention.SDPBackend.EFFICIENT_ATTENTION = SDPBackend.MATH
fused.ROWS, fused.WIDTH, fused.OUTPUTS, fused.COPIED = 48, 128, 300, 1 << 20
names = [name for name in {**attention.LINES, **fused.LINES} if name not in ("G3", "G15-memory")]
for name in names:
    figure = {**attention.LINES, **fused.LINES}[name](1)
    print(json.dumps([name, figure.id, figure.ratio]))
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU measures the lines themselves: make gpu")
@pytest.mark.slow
def test_lines_compare_what_is_equal():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SMALL], capture_output=True, text=True, env=environment, check=False
    )
    assert out.returncode == 0, out.stderr
    lines = [line.split(",") for line in out.stdout.splitlines()]
    assert len(lines) == len(suite.GPU) - 2  # FlexAttention needs a compiler, memory a device that counts it
    assert all(first.strip('["') == second.strip(' "') for first, second, _ in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", suite.GPU)
def test_without_a_gpu_each_line_says_so(name):
    with pytest.raises(KernelError, match="needs a GPU"):
        suite.GPU[name](1)


def test_documents_have_the_density_that_is_said():
    gpu_rows = gpu_attention.ROWS
    device, gpu.DEVICE = gpu.DEVICE, "cpu"
    try:
        low, high = gpu_attention._spans()
    finally:
        gpu.DEVICE = device
    assert 1 / 8 < float((high - low).sum()) / gpu_rows**2 < 1 / 6
    assert bool((high > torch.arange(gpu_rows)).all())
    assert gpu_rows == gpu_fused.ROWS
