"""Checks as a test, and as a list of findings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from anyany.errors import ConformanceError, MissingPackageError
from anyany.testing.kit import Check

Status = Literal["ok", "fail", "expected", "skipped"]
UNEXPECTED = "expected to fail ({reason}), and it passes; take it out of xfail"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of a check.

    Attributes:
        component: Id.
        tier: Of the check.
        check: Its name.
        status: ``ok``, ``fail``, ``expected``: it fails, as is known; ``skipped``: nothing could be built.
        detail: Why it fails, or was skipped; empty where it passes.
        seconds: CPU time of this process that it took.
    """

    component: str
    tier: str
    check: str
    status: Status
    detail: str
    seconds: float


def run(checks: Iterable[Check]) -> list[Finding]:
    """Run checks one after the other; none stops the others, but where a component cannot be built its rest is skipped.

    A factory whose import ends or crashes its process is found in another process, and not imported in this one.

    Args:
        checks: Of any components.
    """
    findings: list[Finding] = []
    stuck: dict[tuple[str, str], str] = {}  # what cannot be built, and the check that says so
    for check in checks:
        spec = (type(check.subject.spec).__name__, check.subject.spec.id)
        if spec in stuck and check.demand.tier != "manifest":
            findings.append(_finding(check, "skipped", f"{stuck[spec]} fails"))
            continue
        findings.append(_look(check))
        if check.demand.needed and findings[-1].status != "ok":
            stuck[spec] = check.name
    return findings


def _look(check: Check) -> Finding:
    start, detail = time.process_time(), ""
    try:
        check()
    except ConformanceError as error:
        detail = str(error)
    status: Status = "fail" if detail else "ok"
    if check.expected:
        status = "expected" if detail else "fail"
        detail = f"{check.expected}: {detail}" if detail else f"{check.id}: {UNEXPECTED.format(reason=check.expected)}"
    return _finding(check, status, detail, time.process_time() - start)


def _finding(check: Check, status: Status, detail: str, seconds: float = 0.0) -> Finding:
    return Finding(
        component=check.subject.spec.id, tier=check.demand.tier, check=check.name, status=status, detail=detail,
        seconds=round(seconds, 3),
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
        known = pytest.mark.xfail(strict=True, reason=check.expected, raises=ConformanceError)
        return pytest.param(check, id=check.id, marks=[known] if check.expected else [])

    return pytest.mark.parametrize("check", [case(check) for check in checks])
