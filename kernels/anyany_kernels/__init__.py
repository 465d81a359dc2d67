"""Fused GPU kernels. None is published in this version: the core runs on its own operations."""
