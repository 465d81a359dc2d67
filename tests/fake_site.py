"""Distributions that are not real: metadata, an entry point and a manifest in a folder of their own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from anyany.plugin.discovery import Settings
from anyany.plugin.records import PluginRecord
from anyany.plugin.registry import Registry

HEAD = "from anyany.plugin import Capabilities, CodecSpec, Codes, EncoderSpec, ModalitySpec, hookimpl\nANYANY_API = 1\n"
ENCODER = HEAD + (
    "@hookimpl\n"
    "def anyany_encoders():\n"
    "    yield EncoderSpec(id='{plugin}/one', modality='image', factory='{module}_heavy:build')\n"
)


class FakeSite:
    """A folder on ``sys.path``, filled with distributions by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, plugin: str, manifest: str = ENCODER, *, distribution: str = "", module: str = "",
        requires: Sequence[str] = (), python: str = "", version: str = "1.0", heavy: str = "def build(): return 1\n",
    ) -> str:  # fmt: skip
        """A plugin with a manifest and, in a module of its own, a factory; returns the manifest's name."""
        distribution = distribution or f"dist-{plugin}"
        module = module or f"fake_{distribution.replace('-', '_')}"
        headers = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
        headers += [f"Requires-Dist: {text}" for text in requires] + ([f"Requires-Python: {python}"] if python else [])
        self.info(distribution, version, METADATA="\n".join(headers) + "\n",
                  entry_points=f"[anyany]\n{plugin} = {module}\n")  # fmt: skip
        self.module(module, manifest.replace("{plugin}", plugin).replace("{module}", module))
        self.module(f"{module}_heavy", heavy)
        return module

    def info(self, distribution: str, version: str = "1.0", **files: str | bytes) -> None:
        """The metadata folder of a distribution."""
        folder = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        for name, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            (folder / (name if name == "METADATA" else f"{name}.txt")).write_bytes(data)
        importlib.invalidate_caches()

    def module(self, name: str, source: str) -> None:
        """A module."""
        (self.folder / f"{name}.py").write_text(source)
        importlib.invalidate_caches()

    @property
    def distributions(self) -> frozenset[str]:
        """Names of what was added."""
        return frozenset(p.name.split("-")[0].replace("_", "-") for p in self.folder.glob("*.dist-info"))

    def discover(self, **settings: object) -> Registry:
        """A registry in which the plugins of the machine itself are blocked, unless ``settings`` say otherwise."""
        return Registry.discover(Settings(**({"allow": self.distributions} | settings)))  # type: ignore[arg-type]

    def own(self, found: Registry) -> list[PluginRecord]:
        """The records of what was added."""
        return [record for record in found.records if record.distribution in self.distributions]

    def record(self, plugin: str, **settings: object) -> PluginRecord:
        """The only record of this name."""
        (found,) = (r for r in self.discover(**settings).records if r.name == plugin)
        return found

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A fresh interpreter that sees this folder, and nothing of the user's settings."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ANYANY_")}
        path = os.pathsep.join([str(self.folder), *(p for p in sys.path if p)])
        return subprocess.run(
            [sys.executable, *words], env=clean | {"PYTHONPATH": path} | environment, cwd=self.folder,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def anyany(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The command line in a fresh interpreter."""
        return self.run("-c", "import sys; from anyany.cli.main import main; sys.exit(main())", *words, **environment)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSite]:
    """An empty folder for fake distributions, first on the path; its modules are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("ANYANY_PLUGINS", "ANYANY_BLOCK", "ANYANY_STRICT", "ANYANY_TRACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.syspath_prepend(folder)
    yield FakeSite(folder)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
