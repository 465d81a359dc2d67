"""``anyany plugins``: what is installed, what one entry declares, and what is wrong.

These commands diagnose, so they look at every plugin even where ``ANYANY_STRICT`` would raise at the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyany.cli.output import print_json, print_table
from anyany.plugin.discovery import Settings
from anyany.plugin.records import PluginRecord, to_json
from anyany.plugin.registry import Registry
from anyany.plugin.requirements import unmet
from anyany.plugin.specs import CodecSpec, ComponentSpec, EncoderSpec, ModalitySpec, Spec

if TYPE_CHECKING:
    from anyany.testing import Cost, Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``anyany plugins``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="{list,show,doctor,check,new}")
    add = partial(actions.add_parser, allow_abbrev=False)
    listing = add("list", help="every plugin, its status and its components")
    showing = add("show", help="one component or plugin in full")
    showing.add_argument(
        "id", metavar="ID", help="a component, task, metric or importer such as image/fsq, or a plugin"
    )
    doctor = add("doctor", help="check this machine; exits with 1 when a check fails")
    checking = add("check", help="run the conformance checks of components; exits with 1 when one fails")
    checking.add_argument("id", metavar="ID", help="a component such as image/fsq, a plugin, or a modality")
    newly = add("new", help="a distribution with a modality that works as it is, in a folder anyany-NAME")
    newly.add_argument("name", metavar="NAME", help="of the plugin, such as thermal")
    newly.add_argument("--encoder", action="store_true", help="media in; both ways, with codes, where neither is named")
    newly.add_argument("--decoder", choices=["codes", "vectors"], help="media out, by what the model predicts")
    kinds = ["arrays", "image", "audio", "video", "timeseries"]
    newly.add_argument("--media", choices=kinds, default="arrays", help="what it is made of")
    for action in (listing, showing, doctor, checking):
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run ``anyany plugins``."""
    if args.action == "doctor":
        from anyany.cli.doctor import examine

        return examine(as_json=args.json)
    plugins = discover()
    if args.action == "new":
        return _new(plugins, args)
    if args.action == "check":
        return _check(plugins, args.id, as_json=args.json)
    if args.action == "show":
        return _show(plugins, args.id, as_json=args.json)
    return _list(plugins, as_json=args.json)


def discover() -> Registry:
    """The plugins of this machine, the broken ones among them."""
    return Registry.discover(replace(Settings.from_environment(), strict=False))


def word(spec: Spec) -> str:
    """Id of what a plugin declares, or ``modality:<word>``."""
    return f"modality:{spec.name}" if isinstance(spec, ModalitySpec) else spec.id


def _list(plugins: Registry, *, as_json: bool) -> int:
    if as_json:
        print_json([_summary(record) for record in plugins.records])
    elif plugins.records:
        columns = ("plugin", "distribution", "version", "status", "components, or the reason why not")
        print_table(columns, [_row(record) for record in plugins.records])
    else:
        print("no plugins are installed. Try: pip install 'anyany[modalities]'")
    return 0


def _summary(record: PluginRecord) -> dict[str, Any]:
    return {
        "name": record.name, "distribution": record.distribution, "version": record.version, "module": record.module,
        "status": record.status, "reason": record.reason, "components": [word(spec) for spec in record.specs],
    }  # fmt: skip


def _row(record: PluginRecord) -> Sequence[str]:
    said = record.reason or "\n".join(word(spec) for spec in record.specs)
    return record.name, record.distribution, record.version, record.status, said


def _show(plugins: Registry, which: str, *, as_json: bool) -> int:
    """A plugin by name (two records, where two distributions claim it), or components by id or modality."""
    which = which.removeprefix("modality:")  # as the list names a modality
    records = [record for record in plugins.records if record.name == which]
    specs: list[Spec] = [spec for record in records for spec in record.specs]
    if not records:
        specs = [spec for spec in (*plugins.tasks, *plugins.metrics, *plugins.importers) if spec.id == which]
        specs = specs or list(plugins.components(which))
        records = [record for record in plugins.records if any(spec in record.specs for spec in specs)]
    if as_json:
        print_json({"plugins": [_summary(record) | {"traceback": record.traceback} for record in records],
                    "specs": [to_json(spec) | {"unmet": _lacks(spec)} for spec in specs]})  # fmt: skip
        return 0
    for record in records:
        print_table(("plugin", record.name), list(_facts(record)))
    for spec in specs:
        print()
        print_table((type(spec).__name__, word(spec)), list(_declared(spec)))
    return 0


def _check(plugins: Registry, which: str, *, as_json: bool) -> int:
    """The conformance kit; with 1 where a check fails."""
    from anyany.testing import checks, run

    own = [spec for record in plugins.records if record.name == which for spec in record.specs]
    specs = [spec for spec in own if isinstance(spec, EncoderSpec | CodecSpec)] or plugins.components(which)
    findings = run(check for spec in specs for check in checks(spec, plugins=plugins))
    failed = [finding for finding in findings if finding.status == "fail"]
    found = [cost for spec in specs for cost in _costs(spec, plugins, findings)]
    if as_json:
        told = {"ok": not failed, "checks": [asdict(f) for f in findings], "costs": [asdict(c) for c in found]}
        print_json(told)
        return 1 if failed else 0
    rows = [(f.status, f.component, f.tier, f.check, f.detail) for f in findings]
    print_table(("status", "component", "tier", "check", "what to do"), rows)
    print(f"\n{len(findings)} checks, {len(failed)} failed")
    if found:
        print("\nwhat a row costs; no check")
        told = [(c.component, c.call, str(c.rows), f"{c.seconds * 1e6:.1f}", f"{c.bytes:.0f}", c.device) for c in found]
        print_table(("component", "call", "rows", "microseconds a row", "bytes a row", "device"), told)
    return 1 if failed else 0


def _costs(spec: ComponentSpec, plugins: Registry, findings: Sequence[Finding]) -> Iterator[Cost]:
    """Of a component that passes its checks; what fails may not even run."""
    if all(finding.status == "ok" for finding in findings if finding.component == spec.id):
        from anyany.testing import Subject, costs

        yield from costs(Subject(spec=spec, plugins=plugins))


def _new(plugins: Registry, args: argparse.Namespace) -> int:
    """Write a distribution, and say how to go on."""
    from anyany.cli.new import new

    both = not args.encoder and not args.decoder
    folder = new(
        args.name, encoder=args.encoder or both, decoder="codes" if both else args.decoder or "", media=args.media,
        folder=Path(), plugins=plugins,
    )  # fmt: skip
    print(f"{folder} is ready. Next:\n  cd {folder}\n  pip install -e .")
    print(f"  anyany plugins check {args.name}\n  python train.py")
    return 0


def _facts(record: PluginRecord) -> Iterator[tuple[str, str]]:
    yield "comes from", record.origin
    yield "manifest", record.module
    yield "status", record.status
    if record.reason:
        yield "reason", record.reason
    if record.traceback:
        yield "traceback", record.traceback.rstrip()


def _declared(spec: Spec) -> Iterator[tuple[str, str]]:
    """Every field of a spec, and which of its requirements are not met."""
    for name, value in to_json(spec).items():
        if name == "can":
            yield from ((f"can.{flag}", _text(setting)) for flag, setting in value.items() if flag != "kind")
        elif name not in ("kind", "id", "name"):
            yield name, _text(value)
    if lacks := _lacks(spec):
        yield "unmet", "; ".join(lacks)


def _lacks(spec: Spec) -> list[str]:
    return [] if isinstance(spec, ModalitySpec) else unmet(spec.requires)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
