"""Fused kernels for anyany. Each lies in a module of its own; importing this package loads neither torch nor Triton."""
