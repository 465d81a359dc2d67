"""What a check is, and which checks a component has to pass.

The checks themselves are functions of one ``Subject`` in the other modules, a module for each tier. Each says in its
docstring what it demands; its name is that of the function.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from inspect import getdoc
from typing import TYPE_CHECKING, NoReturn

from anyany.errors import ConformanceError
from anyany.plugin.records import error_text
from anyany.plugin.registry import Registry, registry
from anyany.plugin.specs import ComponentSpec
from anyany.testing.subject import Subject

if TYPE_CHECKING:
    from anyany.parts import Media

TIERS = (
    "manifest", "basic", "preparing", "surroundings", "gated", "devices", "encoder", "codec", "streaming", "head",
    "sequence", "cache", "training", "serving", "weights", "golden",
)  # fmt: skip
"""Modules of checks, in the order in which they run: what is cheap, and what others build on, comes first."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """One thing that components must keep.

    Attributes:
        name: Of the function.
        tier: The module that it stands in.
        text: What it demands.
        applies: Which components it is for, by what they declare and what the author gave.
        function: Raises ``ConformanceError`` where it is not kept.
        needed: Where it fails nothing can be built, so that ``run`` leaves the rest out.
    """

    name: str
    tier: str
    text: str
    applies: Callable[[Subject], bool]
    function: Callable[[Subject], None]
    needed: bool


def demand(
    applies: Callable[[Subject], bool] = lambda subject: True, *, needed: bool = False
) -> Callable[[Callable[[Subject], None]], Demand]:
    """Make a check of a function.

    Args:
        applies: Which components it is for.
        needed: Where it fails nothing can be built.
    """

    def make(function: Callable[[Subject], None]) -> Demand:
        tier = function.__module__.rpartition(".")[2]
        return Demand(
            name=function.__name__,
            tier=tier,
            text=getdoc(function) or "",
            applies=applies,
            function=function,
            needed=needed,
        )

    return make


@cache
def demands() -> tuple[Demand, ...]:
    """All checks there are, in the order in which they run."""
    found = []
    for tier in TIERS:
        module = import_module(f"anyany.testing.{tier}")
        found += [value for value in vars(module).values() if isinstance(value, Demand) and value.tier == tier]
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A demand on one component; call it.

    Attributes:
        demand: What is demanded.
        subject: Of which component.
        expected: Why it is known to fail; empty where it must pass.
    """

    demand: Demand
    subject: Subject
    expected: str = ""

    @property
    def name(self) -> str:
        """Name of the check, such as ``batch_equals_singles``."""
        return self.demand.name

    @property
    def id(self) -> str:
        """Component and check, such as ``imu/patch-batch_equals_singles``."""
        return f"{self.subject.spec.id}-{self.name}"

    def __call__(self) -> None:
        """Look.

        Raises:
            ConformanceError: What is demanded is not kept, or the plugin raised; names the component and the check.
        """
        from anyany.testing.state import undisturbed

        try:
            with undisturbed():
                self.demand.function(self.subject)
        except ConformanceError as error:
            raise ConformanceError(f"{self.subject.spec.id}: {self.name}: {error}") from error.__cause__
        except (Exception, SystemExit) as error:
            text = f"expected an answer, got {error_text(error)}; it demands: {_first(self.demand.text)}"
            raise ConformanceError(f"{self.subject.spec.id}: {self.name}: {text}") from error


def checks(
    which: str | ComponentSpec, *, plugins: Registry | None = None, sizes: Sequence[Media] = (),
    refuses: Sequence[Media] = (), xfail: Mapping[str, str] | None = None,
) -> list[Check]:  # fmt: skip
    """The checks of a component, gated by what it declares.

    Args:
        which: Its id or its spec; a modality stands for all components of it.
        plugins: Where it comes from; the machine's own by default.
        sizes: Media that it must take beside its examples: the smallest, odd ones, the largest.
        refuses: Media that it must refuse: what exceeds its limits.
        xfail: Checks that are known to fail, each with the reason. A check that passes all the same is a failure.

    Raises:
        UnknownModalityError: There is no such component.
        ConformanceError: ``xfail`` names no check of it, or gives no reason.
    """
    plugins = plugins or registry()
    specs = plugins.components(which) if isinstance(which, str) else (which,)
    found = []
    for spec in specs:
        subject = Subject(spec=spec, plugins=plugins, sizes=tuple(sizes), refuses=tuple(refuses))
        found += [Check(demand=each, subject=subject) for each in demands() if each.applies(subject)]
    return _expecting(found, xfail or {})


def _expecting(found: list[Check], reasons: Mapping[str, str]) -> list[Check]:
    names = {check.name for check in found}
    for name, reason in reasons.items():
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else "anyany plugins check ID lists them"
            raise ConformanceError(f"xfail: {name!r} is no check of this component; {hint}")
        if not reason.strip():
            raise ConformanceError(f"xfail: expected the reason why {name!r} fails, got nothing; write it down")
    return [replace(check, expected=reasons.get(check.name, "")) for check in found]


def hold(kept: bool, expected: str, came: object, advice: str) -> None:
    """Fail unless something is kept.

    Args:
        kept: Whether it is.
        expected: What should be.
        came: What is.
        advice: What to do about it.

    Raises:
        ConformanceError: It is not.
    """
    if not kept:
        fail(expected, came, advice)


def fail(expected: str, came: object, advice: str) -> NoReturn:
    """Fail: what was expected, what came, what to do."""
    raise ConformanceError(f"expected {expected}, got {came}; {advice}")


def listed(things: Iterable[object], most: int = 5) -> str:
    """The first few of many, for a message."""
    names = [str(thing) for thing in things]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _first(text: str) -> str:
    """The first sentence of a docstring."""
    return " ".join(text.split("\n\n")[0].split())
