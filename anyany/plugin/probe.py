"""Imports in a process of their own: a crash, ``sys.exit`` or endless import harms nobody else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

SECONDS = 300
SIGN = "anyany-probe:"
"""Marks our lines among whatever an import prints."""

_FACTORIES = f"""
import importlib, json, sys
for target in sys.argv[1:]:
    module, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
        outcome = [callable(found), "" if callable(found) else f"is a {{type(found).__name__}}, expected a callable"]
    except BaseException as error:
        text = " ".join(str(error).split())
        outcome = [False, f"its import raised {{type(error).__name__}}" + (f": {{text}}" if text else "")]
    print("\\n" + {SIGN!r} + json.dumps(outcome), flush=True)
"""

_TORCH = f"""
import json, torch
device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
print("\\n" + {SIGN!r} + json.dumps([True, f"{{torch.__version__}}, {{device}}"]), flush=True)
"""

_ATTENTION = f"""
import json, torch
from anyany.backbone.ops import attention_kernel
from anyany.errors import KernelError
try:
    outcome = [True, attention_kernel("cuda" if torch.cuda.is_available() else "cpu")[1]]
except KernelError as error:
    outcome = [False, str(error)]
print("\\n" + {SIGN!r} + json.dumps(outcome), flush=True)
"""

_NATIVE = f"""
import json
from anyany.errors import NativeError
try:
    from anyany.native import library, why_not
    found = library()
    outcome = [found is not None, f"{{found.isa}}, {{found.path}}" if found else why_not()]
except NativeError as error:
    outcome = [False, str(error)]
print("\\n" + {SIGN!r} + json.dumps(outcome), flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    """How an import ended: ``text`` is what it found, or what went wrong."""

    ok: bool
    text: str


def factories(targets: Sequence[str], seconds: float = SECONDS) -> list[Outcome]:
    """Import each ``"package.module:callable"``; one process serves until an import ends it, then the next.

    Args:
        targets: What to import.
        seconds: Time limit of a process.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(targets):
        outcomes += ask(_FACTORIES, targets[len(outcomes) :], seconds)
    return outcomes


def torch_version() -> Outcome:
    """Version of torch and name of the GPU."""
    return ask(_TORCH, ["torch"], SECONDS)[0]


def attention() -> Outcome:
    """Which implementation of attention is chosen, and why."""
    return ask(_ATTENTION, ["anyany.backbone.ops"], SECONDS)[0]


def native_library() -> Outcome:
    """Instructions and file of the native library, built if need be; or why there is none."""
    return ask(_NATIVE, ["anyany.native"], SECONDS)[0]


def ask(program: str, targets: Sequence[str], seconds: float = SECONDS) -> list[Outcome]:
    """Outcomes of the first targets, at least one; a process that ends early has its reason as the last.

    Args:
        program: Text of a Python program that prints a line for each of its arguments: ``SIGN`` and a JSON list of
            the two fields of an ``Outcome``.
        targets: Its arguments.
        seconds: Time limit of the process.
    """
    # The child looks where this process looks, and not in the current directory first (-P).
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-c", program, *targets]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as child:
        try:
            output, complaint = child.communicate(timeout=seconds)
            reason = _ending(child.returncode, complaint)
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
            reason = f"its import did not end within {seconds:g} seconds"
    lines = [line.removeprefix(SIGN) for line in output.splitlines() if line.startswith(SIGN)]
    outcomes = [Outcome(*json.loads(line)) for line in lines]
    return outcomes if len(outcomes) == len(targets) else [*outcomes, Outcome(False, reason)]


def _ending(code: int, complaint: str) -> str:
    if code < 0:
        return f"its import crashed the process: {signal.Signals(-code).name}"
    last = complaint.strip().splitlines()[-1:]
    return f"its import ended the process with exit code {code}" + (f": {last[0]}" if code and last else "")
