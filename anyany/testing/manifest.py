"""What a plugin declares, looked at without torch: its manifest, its specs, its distribution."""

from __future__ import annotations

import json
import sys
import tomllib
from functools import lru_cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from anyany.parts import Media
from anyany.plugin import probe
from anyany.plugin.hookspecs import PROJECT
from anyany.plugin.records import to_json
from anyany.plugin.registry import Registry
from anyany.plugin.requirements import unmet
from anyany.plugin.specs import ModalitySpec
from anyany.testing.kit import demand, fail, hold, listed
from anyany.testing.subject import Subject

HEAVY = ("torch", "torchvision", "torchaudio", "transformers", "PIL", "av", "soundfile", "pandas", "pyarrow")
SECONDS = 0.2
FLOATS = ("float16", "bfloat16", "float32", "float64")

_PROGRAM = f"""
import importlib, json, sys, time
import anyany.plugin
from anyany.testing.watch import Watch
with Watch() as watch:
    start = time.process_time()
    importlib.import_module(sys.argv[1])
    seconds = time.process_time() - start
facts = {{"seconds": seconds, "touched": watch.events, "heavy": [m for m in {HEAVY!r} if m in sys.modules]}}
print("\\n" + {probe.SIGN!r} + json.dumps([True, json.dumps(facts)]), flush=True)
"""


@lru_cache(maxsize=64)
def _facts(module: str, path: tuple[str, ...]) -> dict[str, Any]:
    """What the import of a manifest does, in a process of its own that looks for modules on ``path``."""
    outcome = probe.ask(_PROGRAM, [module])[0]
    if not outcome.ok:
        fail("a manifest that can be imported", outcome.text, f"try: python -c 'import {module}'")
    facts: dict[str, Any] = json.loads(outcome.text)
    return facts


def _of(subject: Subject) -> dict[str, Any]:
    return _facts(subject.manifest, tuple(sys.path))


def _is_module(subject: Subject) -> bool:
    return bool(subject.manifest)


@demand(_is_module)
def manifest_imports_nothing_heavy(subject: Subject) -> None:
    """The manifest imports neither torch nor a media library, so that plugins can be listed in no time."""
    heavy = _of(subject)["heavy"]
    hold(
        not heavy,
        "a light manifest",
        f"{subject.manifest}, which imports {listed(heavy)}",
        "import it in the factory's module",
    )


@demand(_is_module)
def manifest_imports_fast(subject: Subject) -> None:
    """The import of the manifest takes less than 0.2 s of CPU time."""
    seconds = _of(subject)["seconds"]
    hold(
        seconds < SECONDS, f"an import of {SECONDS} s at most", f"{seconds:.2f} s for {subject.manifest}",
        "move what takes long into the factory's module",
    )  # fmt: skip


@demand(_is_module)
def manifest_touches_nothing(subject: Subject) -> None:
    """The import of the manifest writes no file, opens no connection, starts no process, sets no variable."""
    touched = _of(subject)["touched"]
    hold(
        not touched,
        "an import that leaves everything as it is",
        listed(touched),
        "do that where it is needed, or never",
    )


@demand()
def hooks_are_repeatable(subject: Subject) -> None:
    """Its hooks return equal specs whenever they are called: every process discovers for itself."""
    record, manifest = subject.plugins.origin(subject.spec)
    again = Registry.isolated().register(manifest, record.name).specs
    other = [spec for spec in again if spec not in record.specs] + [spec for spec in record.specs if spec not in again]
    hold(not other, "the same specs in a second call", listed(other, 2), "yield constants, and keep no state")


@demand()
def config_is_json(subject: Subject) -> None:
    """Its configuration comes back as it was from JSON, which checkpoints store: lists, no tuples; keys of text."""
    config = dict(subject.spec.config)
    again = json.loads(json.dumps(to_json(config)))
    hold(again == config, f"config {again!r}, as JSON gives it back", repr(config), "write lists and text keys")


@demand(needed=True)
def requirements_are_met(subject: Subject) -> None:
    """The packages that it alone requires are installed, so that the other checks say something."""
    lacking = unmet(subject.spec.requires)
    advice = f"pip install {' '.join(subject.spec.requires)}"
    hold(not lacking, "its packages", "; ".join(lacking), advice)


@lru_cache(maxsize=256)
def _resolved(factory: str, path: tuple[str, ...]) -> probe.Outcome:
    return probe.factories([factory])[0]


@demand(needed=True)
def factory_resolves(subject: Subject) -> None:
    """Its factory can be imported in a fresh process, and that process lives on."""
    if subject.spec.factory.startswith("__main__:"):  # of a notebook; it exists in this process only
        return
    outcome = _resolved(subject.spec.factory, tuple(sys.path))
    hold(
        outcome.ok, f"{subject.spec.factory} to be a callable", outcome.text, "mend the module, or the name in the spec"
    )


@demand()
def modality_is_known(subject: Subject) -> None:
    """Its modality is a word that the core or an installed plugin defines."""
    known = subject.plugins.modalities
    advice = "yield a ModalitySpec in anyany_modalities, or mend the word"
    hold(subject.spec.modality in known, f"a modality among {', '.join(known)}", subject.spec.modality, advice)


def _defined_here(subject: Subject) -> bool:
    return any(isinstance(s, ModalitySpec) and s.name == subject.spec.modality for s in subject.record.specs)


@demand(_defined_here)
def media_class_fits_its_word(subject: Subject) -> None:
    """The media class that its plugin names for the modality is a ``Media`` of that modality."""
    target = subject.plugins.modalities[subject.spec.modality].media
    module, _, name = target.partition(":")
    found = getattr(import_module(module), name, None)
    fits = (
        isinstance(found, type)
        and issubclass(found, Media)
        and getattr(found, "modality", None) == subject.spec.modality
    )
    advice = f"class {name}(Media) with modality = {subject.spec.modality!r}"
    hold(fits, f"a Media of {subject.spec.modality!r} at {target}", repr(found), advice)


def _project(subject: Subject) -> Path | None:
    """The ``pyproject.toml`` beside the package of the manifest, in a checkout."""
    file = Path(getattr(sys.modules.get(subject.manifest), "__file__", None) or "/")
    if file.name != "__init__.py":
        return None
    found = file.parent.parent / "pyproject.toml"
    return found if found.is_file() else None


def _distributed(subject: Subject) -> bool:
    return bool(subject.record.distribution) or (_is_module(subject) and _project(subject) is not None)


@demand(_distributed)
def entry_point_names_the_manifest(subject: Subject) -> None:
    """The wheel has an entry point of the group ``anyany`` that leads to the manifest: it is how a plugin is found."""
    record, project = subject.record, _project(subject)
    if project is not None:  # what the next wheel will have
        points = (
            tomllib.loads(project.read_text(encoding="utf-8"))
            .get("project", {})
            .get("entry-points", {})
            .get(PROJECT, {})
        )
    else:
        points = {
            e.name: e.value for e in metadata.distribution(record.distribution).entry_points if e.group == PROJECT
        }
    advice = f'[project.entry-points.{PROJECT}] {record.name} = "{subject.manifest}"'
    hold(points.get(record.name) == subject.manifest, f"{record.name} = {subject.manifest}", points or "none", advice)


@demand()
def limits_are_positive_numbers(subject: Subject) -> None:
    """Each limit that it declares is a number above zero."""
    wrong = {name: value for name, value in subject.spec.can.limits.items() if not _above_zero(value)}
    hold(not wrong, "limits above zero", wrong, "state the largest value that it takes")


def _above_zero(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


@demand()
def dtypes_are_floating_types(subject: Subject) -> None:
    """The types in which it says it runs exist, and float32 is one of them."""
    given = subject.spec.can.dtypes
    fits = set(given) <= set(FLOATS) and "float32" in given
    hold(fits, f"float32, and others of {', '.join(FLOATS)}", given, "mend Capabilities(dtypes=...)")
