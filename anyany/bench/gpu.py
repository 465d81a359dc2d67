"""What all lines share that are measured on a GPU: whether they can be, and how time is taken there."""

from __future__ import annotations

from collections.abc import Callable

import torch

from anyany.errors import AnyanyError, KernelError, MissingPackageError

DEVICE, DTYPE = "cuda", torch.bfloat16
REPEATS = 10
"""Calls between two looks at the clock: a launch takes microseconds, and a look waits for the device."""
TOLERANCE = 2e-2
"""Largest error of a result, as a share of the largest number of the other side's."""


def needed() -> None:
    """Tell why these lines cannot be measured, if they cannot.

    Raises:
        KernelError: There is no GPU.
        MissingPackageError: The kernels are not installed.
    """
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise KernelError("bench: this line needs a GPU, and PyTorch finds none; leave it out")
    try:
        import anyany_kernels.interval_attention  # noqa: F401
    except ImportError:
        raise MissingPackageError("bench: this line needs the kernels. Try: pip install anyany-kernels") from None


def timed(call: Callable[[], object]) -> Callable[[], None]:
    """Some calls, until the device has done them."""

    def calls() -> None:
        for _ in range(REPEATS):
            call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    return calls


def same(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Hold one result to the other.

    Raises:
        AnyanyError: They differ, so that speed says nothing.
    """
    apart = float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max())
    if not apart < TOLERANCE:
        raise AnyanyError(f"{name}: results are {apart:.2g} apart, so that speed says nothing")
