"""``anyany plugins doctor``: everything that can be wrong with an installation, and what to do about it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from anyany._version import __version__
from anyany.cli.output import print_json, print_table
from anyany.cli.plugins import discover
from anyany.plugin import probe
from anyany.plugin.discovery import Settings
from anyany.plugin.records import PluginRecord
from anyany.plugin.registry import Registry
from anyany.plugin.requirements import installed_version, unmet, unmet_by_distribution
from anyany.plugin.specs import BuiltSpec, ImporterSpec, TaskSpec
from anyany.plugin.standard import TEXT


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        status: ``ok``; ``note``: worth knowing, nothing is broken; ``fail``.
        detail: What was found.
        advice: What to do; empty when nothing is to be done.
    """

    name: str
    status: Literal["ok", "note", "fail"]
    detail: str
    advice: str = ""


def examine(*, as_json: bool) -> int:
    """Run all checks and print them; 1 when one failed."""
    plugins, settings = discover(), Settings.from_environment()
    checks = [*_core(), *_extras(), _kernels(), _native(), *_settings(settings, plugins)]
    checks += [_plugin(record) for record in plugins.records]
    checks += _components(plugins)
    healthy = all(check.status != "fail" for check in checks)
    if as_json:
        print_json({"ok": healthy, "checks": [asdict(check) for check in checks]})
    else:
        rows = [(c.status, c.name, c.detail + (f"\n{c.advice}" if c.advice else "")) for c in checks]
        print_table(("status", "check", "found"), rows)
    return 0 if healthy else 1


def _core() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    try:
        problems = unmet_by_distribution(metadata.distribution("anyany"))
    except metadata.PackageNotFoundError:
        yield Check("anyany", "note", f"{__version__}, not installed: a checkout on the path", "pip install -e .")
    else:
        status: Literal["ok", "fail"] = "fail" if problems else "ok"
        yield Check(
            "anyany", status, "; ".join([__version__, *problems]), "pip install --upgrade anyany" if problems else ""
        )
    outcome = probe.torch_version()
    yield Check("torch", "ok" if outcome.ok else "fail", outcome.text, "" if outcome.ok else "install torch anew")


def _extras() -> Iterator[Check]:
    """Optional packages, as the metadata of the core itself lists them."""
    try:
        headers = metadata.metadata("anyany")
    except metadata.PackageNotFoundError:
        return
    needed = [Requirement(text) for text in headers.get_all("Requires-Dist") or ()]
    for extra in headers.get_all("Provides-Extra") or ():
        wanted = [r for r in needed if r.marker is not None and _only_for(r, extra)]
        problems = unmet(f"{r.name}{r.specifier}" for r in wanted)
        if problems:
            yield Check(f"extra {extra}", "note", "; ".join(problems), f"pip install 'anyany[{extra}]'")
        else:
            yield Check(f"extra {extra}", "ok", ", ".join(f"{r.name} {installed_version(r.name)}" for r in wanted))


def _only_for(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _kernels() -> Check:
    version = installed_version("anyany-kernels")
    outcome = probe.attention()
    if version is None and outcome.ok:
        return Check("kernels", "note", "anyany-kernels is not installed: PyTorch's own operations are used")
    found = f"anyany-kernels {version or 'is not installed'}: {outcome.text}"
    return Check("kernels", "ok" if outcome.ok else "fail", found)


def _native() -> Check:
    outcome = probe.native_library()
    if outcome.ok:
        return Check("native library", "ok", outcome.text)
    return Check("native library", "note", outcome.text, "decoding on a CPU takes PyTorch's own, slower path")


def _settings(settings: Settings, plugins: Registry) -> Iterator[Check]:
    """The user's say, and names in it that belong to nothing that is installed."""
    known = {canonicalize_name(n) for record in plugins.records for n in (record.name, record.distribution) if n}
    for variable, names in (("ANYANY_PLUGINS", settings.allow), ("ANYANY_BLOCK", settings.block)):
        if strangers := sorted((names or frozenset()) - known):
            text = f"names {', '.join(strangers)}, which no installed plugin is called"
            yield Check(variable, "note", text, "check the spelling")
        elif names or (names is not None and variable == "ANYANY_PLUGINS"):
            yield Check(variable, "note", f"in effect: {', '.join(sorted(names)) or 'empty, so no plugin is loaded'}")
        else:
            yield Check(variable, "ok", "not set")
    for variable, on in (("ANYANY_STRICT", settings.strict), ("ANYANY_TRACE", settings.trace)):
        yield Check(variable, "note" if on else "ok", "in effect" if on else "not set")


_ADVICE = {
    "unmet": "pip install --upgrade {distribution} installs what it needs",
    "incompatible": "pip install --upgrade {distribution} anyany",
    "failed": "'anyany plugins show {name}' prints the traceback; ANYANY_BLOCK={name} leaves it out",
}


def _plugin(record: PluginRecord) -> Check:
    name = f"plugin {record.name}"
    if record.status == "ok":
        return Check(name, "ok", record.origin)
    detail = f"{record.origin}: {record.status}: {record.reason}"
    advice = _ADVICE.get(record.status, "").format(name=record.name, distribution=record.distribution)
    return Check(name, "note" if record.healthy else "fail", detail, advice)


def _components(plugins: Registry) -> Iterator[Check]:
    """Does each factory import? In processes of their own, because an import may end its process."""
    specs: list[BuiltSpec] = [
        *plugins.encoders, *plugins.codecs, *plugins.tasks, *plugins.metrics, *plugins.importers
    ]  # fmt: skip
    known, ready = {*plugins.modalities, TEXT}, []
    for spec in specs:
        if problems := unmet(spec.requires):
            advice = f"pip install {' '.join(repr(r) for r in spec.requires)}"
            yield Check(f"component {spec.id}", "note", "; ".join(problems), advice)
        elif not isinstance(spec, TaskSpec | ImporterSpec) and spec.modality not in known:
            text = f"its modality {spec.modality!r} is a word that no installed plugin defines"
            yield Check(f"component {spec.id}", "fail", text, "install the plugin that defines it")
        else:
            ready.append(spec)
    for spec, outcome in zip(ready, probe.factories([spec.factory for spec in ready]), strict=True):
        if outcome.ok:
            yield Check(f"component {spec.id}", "ok", spec.factory)
        else:
            plugin = spec.id.split("/")[0]
            yield Check(f"component {spec.id}", "fail", outcome.text, f"ANYANY_BLOCK={plugin} leaves its plugin out")
