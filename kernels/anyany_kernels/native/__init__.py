"""Decoding on a CPU: a pass of a few rows through all layers in one call of C.

The sources lie in ``source/``. They are built with the system's compiler when they are first used, and kept
(``build.py``); ``binding.py`` is what Python sees of them. Nothing here imports torch.
"""

from anyany_kernels.native.binding import Library, Matrix, Norm, Pass, Stack, Vector, library
from anyany_kernels.native.build import BuildError, shared_library

__all__ = ["BuildError", "Library", "Matrix", "Norm", "Pass", "Stack", "Vector", "library", "shared_library"]
