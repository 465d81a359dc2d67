"""From a manifest to its specs: contract version, pluggy's checks, the hooks, the rules.

Here, and only here, code of a plugin runs; whatever it raises becomes a record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pluggy

from anyany.plugin import hookspecs
from anyany.plugin.hookspecs import PROJECT, SPEC_OF_HOOK
from anyany.plugin.records import PluginRecord, Status, error_text, traceback_text
from anyany.plugin.rules import broken_rules
from anyany.plugin.specs import ANYANY_API, Spec
from anyany.plugin.tracing import called, traced


class Refusal(Exception):
    """A plugin breaks the contract; the text says how. Never leaves this package."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows our hooks."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def load(
    manager: pluggy.PluginManager, record: PluginRecord, manifest: Callable[[], Any], *, trace: bool
) -> PluginRecord:
    """Import and register one plugin; its record comes back ``ok`` with specs, or with a reason.

    Args:
        manager: Holds the plugin afterwards, if it is ``ok``.
        record: Who it is.
        manifest: Imports the manifest. May raise anything, ``SystemExit`` too: a plugin never ends
            its host. ``KeyboardInterrupt`` is the user's and passes.
        trace: Say on stderr what each hook gave.
    """
    plugin = None
    try:
        plugin = manifest()
        _check_version(plugin)
        _register(manager, plugin, record.name)
        specs = _collect(manager, plugin, record.name, trace)
        if problems := list(broken_rules(record.name, specs)):
            raise Refusal("failed", "; ".join(problems))
        return replace(record, status="ok", specs=specs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # Under this name: the same object may be registered, rightly, under another one.
        if plugin is not None and manager.get_plugin(record.name) is plugin:
            manager.unregister(plugin)
        if isinstance(error, Refusal):
            return replace(record, status=error.status, reason=str(error))
        return replace(record, status="failed", reason=error_text(error), traceback=traceback_text(error))


def _check_version(plugin: Any) -> None:
    stated = getattr(plugin, "ANYANY_API", None)
    if stated is None:
        raise Refusal("incompatible", f"its manifest states no ANYANY_API; this anyany speaks {ANYANY_API}")
    if stated != ANYANY_API:
        raise Refusal("incompatible", f"written for contract {stated!r}, this anyany speaks {ANYANY_API}")


def _register(manager: pluggy.PluginManager, plugin: Any, name: str) -> None:
    """``check_pending`` turns a misspelt hook into an error."""
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        # pluggy prints the live module; the sentence before it says all that matters.
        text = " ".join(str(error).split()).split(" in plugin ")[0].removeprefix(f"Plugin {name!r} for ")
        raise Refusal("failed", f"{text}; the hooks are {', '.join(SPEC_OF_HOOK)}, without arguments") from error


def _collect(manager: pluggy.PluginManager, plugin: Any, name: str, trace: bool) -> tuple[Spec, ...]:
    """Call the hooks of this plugin alone, so that the fault of one is not the fault of all."""
    others = [other for other in manager.get_plugins() if other is not plugin]
    specs: list[Spec] = []
    for hook, kind in SPEC_OF_HOOK.items():
        call = manager.subset_hook_caller(hook, others)
        if not call.get_hookimpls():
            continue
        for spec in traced(name, hook, call) if trace else called(call):
            if not isinstance(spec, kind):
                raise Refusal("failed", f"{hook} must return {kind.__name__}, got {type(spec).__name__}")
            specs.append(spec)
    return tuple(specs)
