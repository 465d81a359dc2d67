"""All kernels compile for all architectures without a GPU and fit, and the main configurations do not spill."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from anyany_kernels import aot
from anyany_kernels.errors import KernelUnavailableError


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, where Triton compiles."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_all_kernels_compile_without_spills(target):
    done = run("-m", "anyany_kernels.aot", "--target", target, "--dtype", "bf16", "--width", "64")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(target)]
    assert len(lines) == 6 + len(list(aot.companion_jobs()))
    assert done.stdout.endswith("all kernels fit, and no main configuration spills\n")


@pytest.mark.slow
def test_what_does_not_fit_fails():
    done = run("-c", """if True:
        import sys
        from anyany_kernels import aot, attention_table
        attention_table.FORWARD["sm_86"][2, 64] = attention_table.Config(128, 128, 4, 4)
        aot.companion_jobs = list
        sys.exit(aot.main(["--target", "sm_86", "--dtype", "bf16", "--width", "64"]))
    """)  # fmt: skip
    assert done.returncode == 1, done.stderr
    wrong = [line for line in done.stdout.splitlines() if line.endswith("<-- too much")]
    assert len(wrong) == 1
    assert " attend " in wrong[0]


@pytest.mark.slow
def test_capped_scores_compile():
    done = run("-c", """if True:
        import torch
        from anyany_kernels import aot
        for job in list(aot.attention_jobs("sm_90", torch.bfloat16, 64, cap=30.0))[:4]:
            print(job.kernel.__name__, aot.compile_job(job, aot.TARGETS["sm_90"], torch.bfloat16).shared)
    """)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4


@pytest.mark.slow
def test_no_kernel_is_compiled_for_a_length():
    done = run("-c", """if True:
        import torch
        from anyany_kernels import aot
        jobs = [*aot.attention_jobs("sm_90", torch.bfloat16, 64), *aot.companion_jobs()]
        for kernel in {job.kernel for job in jobs}:
            for parameter in kernel.params:
                kind = "constexpr" if parameter.is_constexpr else aot._type(parameter.name, torch.bfloat16)
                if kind == "i32" and not parameter.name.endswith(aot.OF_A_MODEL):
                    print(kernel.__name__, parameter.name, parameter.do_not_specialize)
    """)  # fmt: skip
    assert done.returncode == 0, done.stderr
    lengths = [line.split() for line in done.stdout.splitlines()]
    assert {("attend", "rows"), ("key_gradient", "count"), ("merge", "splits")} <= {(k, p) for k, p, _ in lengths}
    assert all(free == "True" for _, _, free in lengths), lengths


@pytest.mark.skipif("TRITON_INTERPRET" not in os.environ, reason="Triton compiles here")
def test_the_interpreter_compiles_nothing():
    with pytest.raises(KernelUnavailableError, match="TRITON_INTERPRET"):
        aot.compile_job(next(aot.companion_jobs()), aot.TARGETS["sm_90"], next(iter(aot.TYPES)))
