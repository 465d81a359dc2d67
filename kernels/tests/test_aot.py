"""All kernels compile for all architectures without a GPU and fit, and the main configurations do not spill."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from anyany_kernels import aot
from anyany_kernels.errors import KernelUnavailableError


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-m", "anyany_kernels.aot", *arguments],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_all_kernels_compile_without_spills(target):
    done = run("--target", target, "--dtype", "bf16", "--width", "64")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(target)]
    assert len(lines) == 6 + len(list(aot.companion_jobs()))
    assert done.stdout.endswith("all kernels fit, and no main configuration spills\n")


@pytest.mark.slow
def test_what_does_not_fit_fails(tmp_path):
    """Tiles of 256 lines and keys in float32 fit nowhere."""
    (tmp_path / "huge.py").write_text(
        "import sys\n"
        "from anyany_kernels import aot, attention_table\n"
        "huge = attention_table.Config(128, 128, 4, 4)\n"
        "attention_table.FORWARD['sm_86'][2, 64] = huge\n"
        "sys.exit(aot.main(['--target', 'sm_86', '--dtype', 'bf16', '--width', '64']))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, tmp_path / "huge.py"], env=environment, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 1, done.stderr
    wrong = [line for line in done.stdout.splitlines() if line.endswith("<-- too much")]
    assert len(wrong) == 1
    assert " attend " in wrong[0]


@pytest.mark.skipif("TRITON_INTERPRET" not in os.environ, reason="Triton compiles here")
def test_the_interpreter_compiles_nothing():
    with pytest.raises(KernelUnavailableError, match="TRITON_INTERPRET"):
        aot.compile_job(next(aot.companion_jobs()), aot.TARGETS["sm_90"], next(iter(aot.TYPES)))
