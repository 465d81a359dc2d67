"""Discovery: how long it takes to find, import and ask so many plugins, each with a wheel's metadata of its own.

``python -m anyany.bench.discovery 100`` prints the seconds of CPU time for a hundred plugins that are seen for the
first time, in a process that sees no others.
"""

from __future__ import annotations

import compileall
import sys
import tempfile
import time
from pathlib import Path

from anyany.bench.measure import Figure, quartiles
from anyany.bench.memory import program
from anyany.errors import AnyanyError
from anyany.plugin.discovery import Settings
from anyany.plugin.registry import Registry

EACH = 0.005
"""Seconds of CPU time that a plugin may take."""
_METADATA = "Metadata-Version: 2.1\nName: anyany-fake{n}\nVersion: 1.0\nRequires-Dist: anyany>=0.1\n"
_MANIFEST = """
from anyany.plugin import CodecSpec, Codes, EncoderSpec, ModalitySpec, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_modalities():
    yield ModalitySpec(name="fake{n}", media="anyany_fake{n}.media:Fake", axes=("time",))


@hookimpl
def anyany_encoders():
    yield EncoderSpec(id="fake{n}/rows", modality="fake{n}", factory="anyany_fake{n}.encoder:build")


@hookimpl
def anyany_codecs():
    yield CodecSpec(
        id="fake{n}/codes", modality="fake{n}", factory="anyany_fake{n}.codec:build", latents=Codes(vocab=16)
    )
"""


def found(count: int, rounds: int) -> Figure:
    """So many plugins, in a fresh process each round."""
    times = [float(program("discovery", count)) for _ in range(rounds)]
    return Figure(
        id=f"discovery-{count}",
        what=f"CPU time of the discovery of {count} plugins, seen for the first time, without torch",
        quartiles=quartiles([EACH * count / spent for spent in times]),
        peer=f"{EACH * 1000:g} ms each",
        goal=1.0,
    )


def discover(count: int) -> float:
    """Seconds of CPU time of a discovery of so many plugins; nothing else is on the path.

    Raises:
        AnyanyError: One of them is not found, or torch was imported.
    """
    path = sys.path[:]
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), count)
        sys.path[:] = [folder]
        try:
            began = time.process_time()
            plugins = Registry.discover(Settings(strict=True))
            spent = time.process_time() - began
        finally:
            sys.path[:] = path
    if len(plugins.encoders) != count or "torch" in sys.modules:
        came = f"{len(plugins.encoders)}{' and torch' if 'torch' in sys.modules else ''}"
        raise AnyanyError(f"bench: expected {count} plugins and no torch, got {came}; run it in a process of its own")
    return spent


def _write(folder: Path, count: int) -> None:
    for n in range(count):
        (folder / f"anyany_fake{n}").mkdir()
        (folder / f"anyany_fake{n}" / "__init__.py").write_text(_MANIFEST.replace("{n}", str(n)), encoding="utf-8")
        info = folder / f"anyany_fake{n}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(_METADATA.format(n=n), encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[anyany]\nfake{n} = anyany_fake{n}\n", encoding="utf-8")
    compileall.compile_dir(folder, quiet=1)  # as installers do


if __name__ == "__main__":
    print(discover(int(sys.argv[1])))
