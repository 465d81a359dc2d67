"""The conformance kit: what a component must keep, as plain functions.

A whole test file of a plugin::

    from anyany.testing import checks, parametrize

    @parametrize(checks("thermal/patch") + checks("thermal/codes"))
    def test_conforms(check):
        check()

``anyany plugins check ID`` runs the same checks. Importing this package imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anyany.testing.kit import Check, Demand, checks, demands
from anyany.testing.report import Finding, parametrize, run
from anyany.testing.subject import Subject

if TYPE_CHECKING:
    from anyany.testing.cost import Cost, costs
    from anyany.testing.golden import remember

__all__ = [
    "Check", "Cost", "Demand", "Finding", "Subject", "checks", "costs", "demands", "parametrize", "remember", "run",
]  # fmt: skip
_HEAVY = {"Cost": "cost", "costs": "cost", "remember": "golden"}


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for."""
    if name not in _HEAVY:
        raise AttributeError(f"anyany.testing has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"anyany.testing.{_HEAVY[name]}"), name)
