"""Which plugins are installed, and which of them may be imported: all that is known without their code.

An own loop instead of pluggy's: there one broken plugin ends all discovery, and of two plugins with
one name the first on the path wins in silence.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata

from packaging.utils import canonicalize_name

from anyany.plugin.hookspecs import PROJECT
from anyany.plugin.records import PluginRecord, error_text, traceback_text
from anyany.plugin.requirements import unmet_by_distribution

NAME = re.compile(r"[a-z][a-z0-9_-]*")
"""Form of a plugin's name and of a modality's word."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The user's say, from the environment.

    Attributes:
        allow: ``ANYANY_PLUGINS``: plugin or distribution names; ``None`` (unset) allows all, empty none.
        block: ``ANYANY_BLOCK``: plugin or distribution names.
        strict: ``ANYANY_STRICT=1``: a plugin that does not load is an error at once.
        trace: ``ANYANY_TRACE=1``: a line on stderr for each call of a hook.
    """

    allow: frozenset[str] | None = None
    block: frozenset[str] = frozenset()
    strict: bool = False
    trace: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the four variables."""
        env = os.environ if environment is None else environment
        allow = env.get("ANYANY_PLUGINS")
        return cls(
            allow=None if allow is None else _names(allow),
            block=_names(env.get("ANYANY_BLOCK", "")),
            strict=env.get("ANYANY_STRICT", "0") not in ("", "0"),
            trace=env.get("ANYANY_TRACE", "0") not in ("", "0"),
        )

    def refusal(self, record: PluginRecord) -> str:
        """Why the user does not want this plugin; empty when allowed."""
        names = {canonicalize_name(name) for name in (record.name, record.distribution) if name}
        if names & self.block:
            return "named in ANYANY_BLOCK"
        if self.allow is not None and not names & self.allow:
            return "not named in ANYANY_PLUGINS"
        return ""


@dataclass(frozen=True)
class Candidate:
    """An entry point, and its record so far: status ``ok`` means that it may be imported."""

    entry: metadata.EntryPoint
    record: PluginRecord


def candidates(settings: Settings) -> list[Candidate]:
    """Installed plugins in order of name: block list, then dependency metadata, then name claims."""
    found: list[Candidate] = []
    seen: set[str] = set()
    for distribution in metadata.distributions():
        fresh = _offered(distribution, settings)
        name = canonicalize_name(fresh[0].record.distribution) if fresh else ""
        if name not in seen:  # else an older copy further down the path, which is not the one that is imported
            found += fresh
            seen |= {name} - {""}
    return _settle_claims(sorted(found, key=lambda c: (c.record.name, c.record.distribution, c.record.module)))


def _names(text: str) -> frozenset[str]:
    return frozenset(canonicalize_name(name.strip()) for name in text.split(",") if name.strip())


def _offered(distribution: metadata.Distribution, settings: Settings) -> list[Candidate]:
    """What one distribution brings. A file that cannot be read hides no plugin of another distribution."""
    try:
        entries = distribution.entry_points.select(group=PROJECT)
    except Exception as error:
        name, version = _origin(distribution)
        reason = f"its entry_points.txt cannot be read: {error_text(error)}"
        record = PluginRecord(name=name, distribution=name, version=version, status="failed", reason=reason)
        if refusal := settings.refusal(record):
            record = replace(record, status="blocked", reason=refusal)
        return [Candidate(metadata.EntryPoint(name, "", PROJECT), record)]
    return [_examine(entry, distribution, settings) for entry in entries]


def _origin(distribution: metadata.Distribution) -> tuple[str, str]:
    """Name and version of the distribution; damaged metadata gives empty text, not an error."""
    try:
        headers = distribution.metadata
        return str(headers["Name"] or ""), str(headers["Version"] or "")
    except Exception:
        return "", ""


def _examine(entry: metadata.EntryPoint, distribution: metadata.Distribution, settings: Settings) -> Candidate:
    name, version = _origin(distribution)
    record = PluginRecord(name=entry.name, distribution=name, version=version, module=entry.value)
    if reason := settings.refusal(record):
        return Candidate(entry, replace(record, status="blocked", reason=reason))
    if not NAME.fullmatch(entry.name):
        reason = f"the plugin's name {entry.name!r} must be lower-case letters, digits, '-' and '_'"
        return Candidate(entry, replace(record, status="failed", reason=reason))
    try:
        problems = unmet_by_distribution(distribution)
    except Exception as error:  # metadata written by hand or cut off
        reason = f"the metadata of its distribution cannot be read: {error_text(error)}"
        return Candidate(entry, replace(record, status="failed", reason=reason, traceback=traceback_text(error)))
    if problems:
        return Candidate(entry, replace(record, status="unmet", reason="; ".join(problems)))
    return Candidate(entry, record)


def _settle_claims(found: Sequence[Candidate]) -> list[Candidate]:
    """Set aside all plugins that claim one name; nobody wins by install order."""
    claims: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in found:
        if candidate.record.status == "ok":
            claims[candidate.record.name].append(candidate)
    settled = []
    for candidate in found:
        rivals = [c for c in claims[candidate.record.name] if c is not candidate]
        if candidate.record.status == "ok" and rivals:
            others = ", ".join(c.record.origin for c in rivals)
            first = rivals[0].record.distribution
            way_out = f"set ANYANY_BLOCK={first} or uninstall one" if first else "uninstall one"
            reason = f"the name is also claimed by {others}; {way_out}"
            candidate = replace(candidate, record=replace(candidate.record, status="conflict", reason=reason))
        settled.append(candidate)
    return settled
