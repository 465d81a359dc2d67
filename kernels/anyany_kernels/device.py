"""What a launch needs to know of the device: its architecture, and how many programs it runs at once."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
import triton

from anyany_kernels.errors import KernelUnavailableError

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Triton's interpreter (``TRITON_INTERPRET=1`` at import) runs the kernels on a CPU, for tests."""

LIMITS = {"sm_80": 166912, "sm_86": 101376, "sm_90": 232448, "sm_100": 232448, "gfx942": 65536}
"""Architectures that the tables of configurations know, and the shared memory of a program there, in bytes."""


@cache
def architecture(device: torch.device) -> str:
    """The key of :data:`LIMITS` whose configurations fit the device; ``"interpreter"`` on a CPU.

    Raises:
        KernelUnavailableError: The device is too old, or no GPU.
    """
    if device.type == "cpu" and INTERPRETED:
        return "interpreter"
    if device.type != "cuda":
        raise KernelUnavailableError(
            f"kernels: expected tensors on a GPU, got device {device}; TRITON_INTERPRET=1 runs them on a CPU, slowly"
        )
    if torch.version.hip:
        return "gfx942"  # 64 KiB of shared memory fit every AMD GPU that Triton supports
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise KernelUnavailableError(
            f"kernels: expected compute capability 8.0 or newer, got {major}.{minor}; "
            "the operations of PyTorch run on this GPU"
        )
    return {(8, 0): "sm_80", (9, 0): "sm_90", (10, 0): "sm_100", (10, 3): "sm_100"}.get((major, minor), "sm_86")


def on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be that of the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@cache
def processors(device: torch.device) -> int:
    """Programs that the device runs side by side."""
    return 4 if device.type == "cpu" else torch.cuda.get_device_properties(device).multi_processor_count
