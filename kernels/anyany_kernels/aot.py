"""``python -m anyany_kernels.aot``: compile all kernels for all architectures, without a GPU, and print what they take.

The table holds registers of a thread, bytes of them that are spilled to memory, and shared memory of a program. The
command fails where a kernel asks for more shared memory than the architecture has, and where a main configuration
spills: all kernels in half precision, those of attention up to a head width of 128.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from anyany_kernels import (
    attention_backward,
    attention_decode,
    attention_forward,
    gated,
    linear_cross_entropy,
    rms_norm,
    rope,
)
from anyany_kernels.attention_table import DECODE, FORWARD, KEYS, QUERIES, choose, fixed
from anyany_kernels.device import INTERPRETED, LIMITS
from anyany_kernels.errors import KernelUnavailableError

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32), "sm_86": GPUTarget("cuda", 86, 32), "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32), "gfx942": GPUTarget("hip", "gfx942", 64),
}  # fmt: skip
TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
WIDTHS = (64, 80, 96, 128, 256)
HEADS, GROUP, WIDTH, OUTPUTS = 32, 4, 4096, 32768
"""A model of common shape: query heads, those of a key head, width, vocabulary."""

OF_A_MODEL = ("_row", "_head", "width", "stride", "outputs")
"""Integers that are the same for all inputs of a model, and multiples of 16; others are lengths, compiled for none."""
FLOATS = {"lse", "delta", "parts", "levels", "cos", "sin", "inverse", "to_weight", "losses", "weights"}
NUMBERS = {"scale": "fp32", "cap": "fp32", "eps": "fp32", "direction": "fp32",
           **dict.fromkeys(("rows", "count", "tiles", "splits", "width", "stride", "outputs"), "i32"),
           "intervals": "*i32", "edges": "*i32", "targets": "*i64"}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One kernel, what it is compiled for, and with how many warps and stages."""

    kernel: Any
    constants: dict[str, Any]
    warps: int = 4
    stages: int = 3


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel takes: registers of a thread, spilled bytes of a thread, shared bytes of a program."""

    registers: int
    spills: int
    shared: int


def attention_jobs(arch: str, dtype: torch.dtype, width: int, cap: float | None = None) -> Iterator[Job]:
    """The kernels of interval attention as they are launched on an architecture."""
    given = fixed(dtype, width, cap)
    sizes = {"WIDTH": width, "PADDED": given["PADDED"]}
    shape = {"HEADS": HEADS, "GROUP": GROUP}
    tables = [(attention_forward.attend, FORWARD), (attention_backward.query_gradient, QUERIES),
              (attention_backward.key_gradient, KEYS), (attention_decode.attend_split, DECODE)]  # fmt: skip
    for kernel, table in tables:
        config = choose(table, arch, dtype, width)
        constants = {**shape, **given, "BLOCK_M": config.rows, "BLOCK_N": config.keys}
        yield Job(kernel, constants, config.warps, config.stages)
    rows = choose(KEYS, arch, dtype, width).rows
    yield Job(attention_backward.prepare, {**shape, **sizes, "BLOCK_M": rows}, 8)
    yield Job(attention_decode.merge, {**sizes, "BLOCK": attention_decode.MOST})


def companion_jobs() -> Iterator[Job]:
    """The other kernels."""
    for adds in (False, True):
        sizes = rms_norm.tile(WIDTH)
        warps = sizes.pop("num_warps")
        for kernel in (rms_norm.norm_forward, rms_norm.norm_backward):
            yield Job(kernel, {**sizes, "ADDS": adds}, warps)
    sizes = rope.tile(HEADS, WIDTH // HEADS)
    yield Job(rope.turn, sizes, sizes.pop("num_warps"))
    for form in ("silu", "gelu", "gelu_tanh"):
        for kernel in (gated.gate_forward, gated.gate_backward):
            yield Job(kernel, {"FORM": form, "BLOCK": gated.BLOCK})
    for slopes in (False, True):
        yield Job(linear_cross_entropy.row_losses, {"SLOPES": slopes, "BLOCK": min(4096, OUTPUTS)}, 8)


def compile_job(job: Job, target: GPUTarget, dtype: torch.dtype) -> Usage:
    """Compile as a launch would: pointers and strides are multiples of 16, lengths are not known.

    Raises:
        KernelUnavailableError: Triton runs as an interpreter, which compiles nothing.
    """
    if INTERPRETED:
        raise KernelUnavailableError("aot: Triton was imported with TRITON_INTERPRET=1, unset it to compile")
    names = job.kernel.arg_names
    signature = {name: "constexpr" if name in job.constants else _type(name, dtype) for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names)
               if signature[name].startswith("*") or name.endswith(OF_A_MODEL)}  # fmt: skip
    source = ASTSource(job.kernel, signature, job.constants, aligned)
    compiled = triton.compile(source, target=target, options={"num_warps": job.warps, "num_stages": job.stages})
    read = _read_ptx if target.backend == "cuda" else _read_amdgcn
    registers, spills = read(compiled.asm)
    return Usage(registers, spills, compiled.metadata.shared)


def _type(name: str, dtype: torch.dtype) -> str:
    if name.endswith(("_row", "_head")):
        return "i32"
    return NUMBERS.get(name, "*fp32" if name in FLOATS else f"*{TYPES[dtype]}")


def _read_ptx(asm: dict[str, Any]) -> tuple[int, int]:
    """What the assembler that comes with Triton says of its registers."""
    target = re.search(r"\.target\s+sm_(\d+)(\w*)", asm["ptx"])
    if target is None:
        raise KernelUnavailableError("aot: the compiler's output names no architecture; another version of Triton?")
    tools = triton.knobs.nvidia
    tool = tools.ptxas_blackwell if int(target[1]) >= 100 else tools.ptxas
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.ptx")
        file.write_text(asm["ptx"])
        command = [tool.path, "-v", f"--gpu-name=sm_{target[1]}{target[2]}", str(file), "-o", os.devnull]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return _number(r"Used (\d+) registers", text), _number(r"(\d+) bytes spill stores", text)


def _read_amdgcn(asm: dict[str, Any]) -> tuple[int, int]:
    """Vector registers and scratch memory; scalar registers are spilled into vector registers."""
    text = asm["amdgcn"]
    return _number(r"\.vgpr_count:\s*(\d+)", text), _number(r"\.private_segment_fixed_size:\s*(\d+)", text)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise KernelUnavailableError(f"aot: the compiler's report holds no {pattern!r}; another version of Triton?")
    return int(found[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a kernel spills or does not fit."""
    parser = argparse.ArgumentParser(prog="python -m anyany_kernels.aot", description=__doc__.splitlines()[0])
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS), help="architectures")
    parser.add_argument("--dtype", nargs="+", choices=TYPES.values(), default=["bf16", "fp32"], help="of the elements")
    parser.add_argument("--width", nargs="+", type=int, choices=WIDTHS, default=[64, 128, 256], help="of a head")
    chosen = parser.parse_args(arguments)
    print(f"triton {triton.__version__}")
    print(f"{'target':8}{'dtype':7}{'width':>6}  {'kernel':16}{'tile':>9}{'warps':>7}{'stages':>8}"
          f"{'registers':>11}{'spilled':>9}{'shared':>9}{'limit':>8}")  # fmt: skip
    bad = 0
    for arch in chosen.target:
        for dtype, name in ((d, n) for d, n in TYPES.items() if n in chosen.dtype):
            jobs = [(width, job) for width in chosen.width for job in attention_jobs(arch, dtype, width)]
            for width, job in [*jobs, *((WIDTH, job) for job in companion_jobs())]:
                usage = compile_job(job, TARGETS[arch], dtype)
                main = dtype.itemsize == 2 and (width <= 128 or width == WIDTH)
                wrong = usage.shared > LIMITS[arch] or (main and usage.spills > 0)
                bad += wrong
                print(_line(arch, name, width, job, usage) + (" <-- too much" if wrong else ""), flush=True)
    print(f"{bad} kernels spill or do not fit" if bad else "all kernels fit, and no main configuration spills")
    return 1 if bad else 0


def _line(arch: str, dtype: str, width: int, job: Job, usage: Usage) -> str:
    sizes = job.constants
    tile = "x".join(str(sizes[key]) for key in ("BLOCK_M", "ROWS", "BLOCK_N", "BLOCK") if key in sizes)
    return (f"{arch:8}{dtype:7}{width:6}  {job.kernel.__name__:16}{tile:>9}{job.warps:7}{job.stages:8}"
            f"{usage.registers:11}{usage.spills:9}{usage.shared:9}{LIMITS[arch]:8}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
