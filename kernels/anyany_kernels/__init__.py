"""Kernels for anyany, in Triton for GPUs and in C for CPUs. Importing this package loads neither torch nor Triton."""
