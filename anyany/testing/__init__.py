"""The conformance kit: what a component must keep, as plain functions.

A whole test file of a plugin::

    from anyany.testing import checks, parametrize

    @parametrize(checks("thermal/patch") + checks("thermal/codes"))
    def test_conforms(check):
        check()

``anyany plugins check ID`` runs the same checks. Importing this package imports no torch.
"""

from __future__ import annotations

from anyany.testing.kit import Check, Demand, checks, demands
from anyany.testing.report import Finding, parametrize, run
from anyany.testing.subject import Subject

__all__ = ["Check", "Demand", "Finding", "Subject", "checks", "demands", "parametrize", "run"]
