"""Checks as a test, and as a list of findings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from anyany.errors import ConformanceError, MissingPackageError
from anyany.testing.kit import Check

UNEXPECTED = "expected to fail ({reason}), and it passes; take it out of xfail"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of a check.

    Attributes:
        component: Id.
        tier: Of the check.
        check: Its name.
        status: ``ok``, ``fail``, or ``expected``: it fails, as is known.
        detail: Why it fails; empty where it passes.
        seconds: CPU time of this process that it took.
    """

    component: str
    tier: str
    check: str
    status: Literal["ok", "fail", "expected"]
    detail: str
    seconds: float


def run(checks: Iterable[Check]) -> list[Finding]:
    """Run checks one after the other; none stops the others.

    Args:
        checks: Of any components.
    """
    return [_look(check) for check in checks]


def _look(check: Check) -> Finding:
    start, detail = time.process_time(), ""
    try:
        check()
    except ConformanceError as error:
        detail = str(error)
    status: Literal["ok", "fail", "expected"] = "fail" if detail else "ok"
    if check.expected:
        status = "expected" if detail else "fail"
        detail = f"{check.expected}: {detail}" if detail else f"{check.id}: {UNEXPECTED.format(reason=check.expected)}"
    return Finding(
        component=check.subject.spec.id, tier=check.demand.tier, check=check.name, status=status, detail=detail,
        seconds=round(time.process_time() - start, 3),
    )  # fmt: skip


def parametrize(checks: Sequence[Check]) -> Any:
    """A decorator for a test with the argument ``check``: one case for each, known failures as strict ``xfail``.

    Args:
        checks: Of any components.

    Raises:
        MissingPackageError: pytest is not installed.
    """
    try:
        import pytest
    except ImportError:
        raise MissingPackageError("parametrize: needs pytest, not installed. Try: pip install pytest") from None

    def case(check: Check) -> Any:
        marks: list[Any] = [pytest.mark.slow] if check.demand.slow else []
        if check.expected:
            marks.append(pytest.mark.xfail(strict=True, reason=check.expected, raises=ConformanceError))
        return pytest.param(check, id=check.id, marks=marks)

    return pytest.mark.parametrize("check", [case(check) for check in checks])
