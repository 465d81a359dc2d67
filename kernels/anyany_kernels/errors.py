"""Errors of the kernels. Each message names the kernel, what was expected, what came, and the way out."""

from __future__ import annotations


class KernelError(Exception):
    """Base of all errors that a kernel raises on purpose, before anything is launched."""


class KernelTypeError(KernelError, TypeError):
    """A tensor has another dtype than the kernel reads, or lies on another device."""


class KernelValueError(KernelError, ValueError):
    """Shapes, strides, sizes or numbers that the kernel cannot work with."""


class KernelUnavailableError(KernelError, RuntimeError):
    """No kernel can run on this machine or device."""
