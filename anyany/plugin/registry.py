"""The registry: which components this process has, and how one is built.

Discovery is the same in every process: it depends on installed distributions and the environment only.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from typing import Any

from anyany.errors import AmbiguousComponentError, MissingPackageError, PluginError, UnknownModalityError
from anyany.plugin.discovery import Settings, candidates
from anyany.plugin.loading import load, new_manager
from anyany.plugin.records import PluginRecord, error_text
from anyany.plugin.requirements import unmet
from anyany.plugin.specs import (
    BuiltSpec,
    CodecSpec,
    ComponentSpec,
    EncoderSpec,
    ImporterSpec,
    MetricSpec,
    ModalitySpec,
    Spec,
    TaskSpec,
)
from anyany.plugin.standard import STANDARD


class Registry:
    """Records of all plugins, and the specs of those that are ``ok``."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._manager = new_manager()
        self._records: list[PluginRecord] = []

    @classmethod
    def isolated(cls) -> Registry:
        """A registry that discovers nothing; ``register`` fills it. Of the environment it knows ``ANYANY_TRACE``."""
        return cls(Settings(trace=Settings.from_environment().trace))

    @classmethod
    def discover(cls, settings: Settings | None = None) -> Registry:
        """A registry of what is installed.

        Raises:
            PluginError: ``ANYANY_STRICT=1`` and a plugin is neither ``ok`` nor blocked.
        """
        found = cls(settings or Settings.from_environment())
        for candidate in candidates(found._settings):
            record = candidate.record
            if record.status == "ok":
                record = load(found._manager, record, candidate.entry.load, trace=found._settings.trace)
            found._records.append(record)
        found._settle_words()
        sick = [record for record in found._records if not record.healthy]
        if found._settings.strict and sick:
            raise PluginError("ANYANY_STRICT: " + "; ".join(record.explain() for record in sick))
        return found

    def register(self, plugin: Any, name: str) -> PluginRecord:
        """Add a manifest module or object by hand, for notebooks and tests.

        Raises:
            PluginError: It breaks the contract; the message says how.
        """
        if any(record.name == name and record.status == "ok" for record in self._records):
            raise PluginError(f"plugin {name!r}: the name is already taken; choose another")
        record = load(self._manager, PluginRecord(name=name), lambda: plugin, trace=self._settings.trace)
        if record.status != "ok":
            raise PluginError(record.explain())
        if taken := sorted(set(_words(record)) & set(self.modalities)):
            self._manager.unregister(name=name)
            words = ", ".join(taken)
            raise PluginError(f"plugin {name!r}: the modality {words!r} is already defined; choose another word")
        self._records.append(record)
        return record

    @property
    def records(self) -> tuple[PluginRecord, ...]:
        """One record per plugin, in order of name."""
        return tuple(self._records)

    def origin(self, spec: Spec) -> tuple[PluginRecord, Any]:
        """The record of the plugin that declares a spec, and its manifest.

        Raises:
            PluginError: No plugin of this registry declares it.
        """
        for record in self._records:
            if spec in record.specs:
                return record, self._manager.get_plugin(record.name)
        raise PluginError(f"{spec!r:.80}: no plugin of this registry declares it; take a spec of registry().components")

    @property
    def modalities(self) -> dict[str, ModalitySpec]:
        """All words, the standard ones first."""
        return {**STANDARD, **{s.name: s for s in self._specs(ModalitySpec)}}

    def encoder(self, which: str) -> EncoderSpec:
        """The encoder with this id, or the only one of this modality that is not ``by_id``.

        Raises:
            UnknownModalityError: There is none.
            AmbiguousComponentError: There are several; the message lists their ids.
        """
        return self._find("encoder", which, [s for s in self._specs(EncoderSpec) if s.id == which or not s.by_id])

    def codec(self, which: str) -> CodecSpec:
        """The codec with this id, or the only one of this modality; errors as for ``encoder``."""
        return self._find("codec", which, self._specs(CodecSpec))

    @property
    def encoders(self) -> tuple[EncoderSpec, ...]:
        """All encoders."""
        return tuple(self._specs(EncoderSpec))

    @property
    def codecs(self) -> tuple[CodecSpec, ...]:
        """All codecs."""
        return tuple(self._specs(CodecSpec))

    @property
    def tasks(self) -> tuple[TaskSpec, ...]:
        """All evaluation tasks of plugins."""
        return tuple(self._specs(TaskSpec))

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """All metrics of plugins."""
        return tuple(self._specs(MetricSpec))

    @property
    def importers(self) -> tuple[ImporterSpec, ...]:
        """All importers of plugins."""
        return tuple(self._specs(ImporterSpec))

    def components(self, which: str) -> tuple[ComponentSpec, ...]:
        """Encoders and codecs with this id (one of each may share it), or all of this modality.

        Raises:
            UnknownModalityError: There is none.
        """
        every: list[ComponentSpec] = [*self.encoders, *self.codecs]
        found = _matching(which, every)
        if not found:
            raise UnknownModalityError(self._unknown("component", which, [s.id for s in every]))
        return tuple(found)

    def build(self, spec: BuiltSpec, **config: Any) -> Any:
        """Import the factory and call it with the spec's configuration, changed by ``config``.

        Raises:
            MissingPackageError: A package that the spec requires is not installed.
            PluginError: The factory cannot be imported, or raises.
        """
        if problems := unmet(spec.requires):
            raise MissingPackageError(f"{spec.id}: {'; '.join(problems)}. Try: pip install {' '.join(spec.requires)}")
        module, _, name = spec.factory.partition(":")
        try:
            factory = getattr(import_module(module), name)
            return factory(**{**spec.config, **config})
        except (Exception, SystemExit) as error:  # a plugin never ends its host
            raise PluginError(f"{spec.id}: its factory {spec.factory} failed: {error_text(error)}") from error

    def _specs(self, kind: type[Any]) -> Iterable[Any]:
        return (spec for record in self._records for spec in record.specs if isinstance(spec, kind))

    def _find(self, kind: str, which: str, specs: Iterable[Any]) -> Any:
        every = list(specs)
        found = _matching(which, every)
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(s.id for s in found)
            raise AmbiguousComponentError(f"{kind} for {which!r}: several are installed: {ids}; name one by its id")
        raise UnknownModalityError(self._unknown(kind, which, [s.id for s in every]))

    def _unknown(self, kind: str, which: str, ids: list[str]) -> str:
        plugin = which.split("/")[0]
        text = f"no {kind} for {which!r}. Installed: {', '.join(ids) or 'none'}."
        of_that_name = [record for record in self._records if record.name == plugin]
        if of_that_name and all(record.status != "ok" for record in of_that_name):
            return f"{text} Its plugin did not load: {'; '.join(record.explain() for record in of_that_name)}"
        close = difflib.get_close_matches(which, ids, 1)
        if close:
            return f"{text} Did you mean {close[0]!r}?"
        sick = [record.explain() for record in self._records if not record.healthy]
        hint = f" Plugins that did not load: {'; '.join(sick)}" if sick else ""
        return f"{text} Try: pip install anyany-{plugin}.{hint}"

    def _settle_words(self) -> None:
        """Set aside all plugins that claim one new word."""
        claims: dict[str, list[PluginRecord]] = defaultdict(list)
        for record in self._records:
            for word in _words(record):
                claims[word].append(record)
        for index, record in enumerate(self._records):
            reasons = [
                f"the modality {word!r} is also claimed by {', '.join(r.name for r in claims[word] if r is not record)}"
                for word in _words(record)
                if len(claims[word]) > 1
            ]
            if reasons:
                self._manager.unregister(name=record.name)
                reason = f"{'; '.join(reasons)}; set ANYANY_BLOCK to one of them, or uninstall one"
                self._records[index] = replace(record, status="conflict", reason=reason, specs=())


def _words(record: PluginRecord) -> list[str]:
    return [spec.name for spec in record.specs if isinstance(spec, ModalitySpec)]


def _matching(which: str, specs: Iterable[Any]) -> list[Any]:
    """Specs with this id, else of this modality."""
    specs = list(specs)
    return [s for s in specs if s.id == which] or [s for s in specs if s.modality == which]


@lru_cache(maxsize=1)
def registry() -> Registry:
    """The registry of this process; ``registry.cache_clear()`` discovers anew."""
    return Registry.discover()
