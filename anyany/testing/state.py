"""The state that a process shares, and a context that puts it back, so that one fault does not pass for many."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def global_state() -> dict[str, Any]:
    """Everything global that a component has no business with, by name."""
    return {
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradient mode": torch.is_grad_enabled(),
        "deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "filters of warnings": list(warnings.filters),
    }


@contextmanager
def undisturbed() -> Iterator[None]:
    """Warnings are not errors in it, and what is global is as before behind it."""
    before = global_state()
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(before["default dtype"])
        if torch.get_num_threads() != before["threads"]:
            torch.set_num_threads(before["threads"])
        torch.set_grad_enabled(before["gradient mode"])
        torch.use_deterministic_algorithms(before["deterministic mode"])
        os.chdir(before["folder"])
        if dict(os.environ) != before["environment"]:
            os.environ.clear()
            os.environ.update(before["environment"])
