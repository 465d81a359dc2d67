"""The one place that chooses between the native library and PyTorch.

``ANYANY_NATIVE`` is 0: PyTorch; 1: the library, or an error that says why not; not set: the library where there
is one, and PyTorch where there is none, which ``anyany plugins doctor`` tells.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from anyany.errors import NativeError

if TYPE_CHECKING:
    from anyany_kernels.native import Library

VARIABLE = "ANYANY_NATIVE"


def library() -> Library | None:
    """The library, built when it is first asked for; ``None`` where PyTorch does the work.

    Raises:
        NativeError: It was asked for and cannot be had, or the variable holds something else than 0 or 1.
    """
    if _setting() == "0":
        return None
    found, why = _find()
    if found is None and asked():
        raise NativeError(f"native library: {VARIABLE}=1 asks for it, but {why}")
    return found


def why_not() -> str:
    """Why there is no library; empty where there is one."""
    return f"{VARIABLE}=0 switches it off" if _setting() == "0" else _find()[1]


def asked() -> bool:
    """Whether the user insists on it."""
    return _setting() == "1"


def _setting() -> str:
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise NativeError(f"{VARIABLE}: expected 0 (never) or 1 (always), or not to be set, got {value!r}")
    return value


@cache
def _find() -> tuple[Library | None, str]:
    """The library, or why there is none; tried once in a process."""
    try:
        from anyany_kernels import native
    except ImportError:
        return None, "anyany-kernels is not installed: pip install anyany-kernels"
    try:
        return native.library(), ""
    except native.BuildError as error:
        return None, str(error)
