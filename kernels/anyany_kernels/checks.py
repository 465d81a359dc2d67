"""Checks before a launch: a kernel reads raw memory, so that what it is given must be what it expects."""

from __future__ import annotations

import torch
from torch import Tensor

from anyany_kernels.device import architecture
from anyany_kernels.errors import KernelTypeError, KernelValueError

FLOATS = (torch.float16, torch.bfloat16, torch.float32)
LARGEST = 2**31
"""Elements that 32-bit offsets reach."""


def check_floats(kernel: str, **tensors: Tensor) -> None:
    """All have one dtype of :data:`FLOATS`, lie on one device that runs kernels, and their last axis is dense.

    Raises:
        KernelTypeError: Another dtype, or several dtypes or devices.
        KernelValueError: A tensor with steps in its last axis, or of 2**31 elements and more.
        KernelUnavailableError: The device runs no kernels.
    """
    (first, model), *_ = tensors.items()
    if model.dtype not in FLOATS:
        raise KernelTypeError(f"{kernel}: expected float16, bfloat16 or float32, got {model.dtype} for {first}")
    for name, x in tensors.items():
        if x.dtype != model.dtype:
            raise KernelTypeError(f"{kernel}: {first} is {model.dtype}, {name} is {x.dtype}; cast one of them")
        if x.numel() and x.dim() and x.stride(-1) != 1 and x.shape[-1] > 1:
            raise KernelValueError(f"{kernel}: the last axis of {name} has stride {x.stride(-1)}, expected 1; "
                                   "call .contiguous()")  # fmt: skip
    check_place(kernel, **tensors)


def check_place(kernel: str, **tensors: Tensor) -> None:
    """All lie on one device that runs kernels, within reach of 32-bit offsets.

    Raises:
        KernelTypeError: Several devices.
        KernelValueError: 2**31 elements and more, between the first and the last.
        KernelUnavailableError: The device runs no kernels.
    """
    (first, model), *_ = tensors.items()
    architecture(model.device)
    for name, x in tensors.items():
        if x.device != model.device:
            raise KernelTypeError(f"{kernel}: {first} is on {model.device}, {name} on {x.device}; move one of them")
        reach = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True)) + 1 if x.numel() else 0
        if reach >= LARGEST:
            raise KernelValueError(f"{kernel}: {name} reaches over {reach} elements, fewer than 2**31 are expected; "
                                   "pass fewer rows at once")  # fmt: skip


def check_shape(kernel: str, name: str, x: Tensor, *shape: int) -> None:
    """``x`` has exactly this shape.

    Raises:
        KernelValueError: It has another one.
    """
    if tuple(x.shape) != shape:
        raise KernelValueError(f"{kernel}: expected {name} of shape {shape}, got {tuple(x.shape)}")
