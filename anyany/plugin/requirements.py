"""Are the requirements of a distribution met? Answered from metadata alone, nothing is imported."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from anyany._version import __version__


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, or ``None``. The core answers for itself."""
    # A checkout on the path has no metadata, and an editable install may carry stale metadata.
    if canonicalize_name(name) == "anyany":
        return __version__
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def unmet(requirements: Iterable[str]) -> list[str]:
    """What is missing, such as ``"needs torchaudio>=2.11, not installed"``.

    Requirements whose environment marker does not hold here are left out; URLs count as any version.
    """
    return [text for text in map(_problem, requirements) if text]


def unmet_by_distribution(distribution: metadata.Distribution) -> list[str]:
    """Same, for ``Requires-Python`` and ``Requires-Dist`` of a distribution."""
    problems = unmet(distribution.requires or ())
    headers = distribution.metadata
    wanted = headers["Requires-Python"] if headers and "Requires-Python" in headers else None
    if wanted and not _python_fits(str(wanted)):
        problems.insert(0, f"needs Python {wanted}, found {platform.python_version()}")
    return problems


def _problem(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return f"has a requirement that cannot be read: {text!r}"
    # Extras of the plugin itself are optional by definition, hence the empty extra.
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return ""
    found = installed_version(requirement.name)
    wanted = f"{requirement.name}{requirement.specifier}"
    if found is None:
        return f"needs {wanted}, not installed"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"needs {wanted}, found {found}"
    return ""


def _python_fits(wanted: str) -> bool:
    try:
        return SpecifierSet(wanted).contains(platform.python_version(), prereleases=True)
    except InvalidSpecifier:
        return False
