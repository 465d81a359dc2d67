"""``anyany plugins new``: what is written works as it is, and is written whole or not at all."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from anyany import Audio, Image, TimeSeries, Video
from anyany.cli.main import main
from anyany.plugin.registry import Registry
from anyany.testing import checks, run

LONGEST = 200


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder to be in, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def made(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_whole_distribution_of_at_most_200_lines(folder, capsys):
    assert main(["plugins", "new", "thermal"]) == 0
    assert "anyany plugins check thermal" in capsys.readouterr().out
    assert made(folder / "anyany-thermal") == {
        ".github/workflows/test.yml", ".gitignore", "README.md", "pyproject.toml", "tests/test_thermal.py", "train.py",
        "anyany_thermal/__init__.py", "anyany_thermal/codec.py", "anyany_thermal/encoder.py", "anyany_thermal/media.py",
    }  # fmt: skip
    package = folder / "anyany-thermal" / "anyany_thermal"
    assert sum(len(file.read_text().splitlines()) for file in package.glob("*.py")) <= LONGEST
    assert made(folder) == {f"anyany-thermal/{file}" for file in made(folder / "anyany-thermal")}


WAYS = [
    ("thermal", ["--encoder", "--decoder", "codes"], {"rows", "codes"}),
    ("gaze", ["--encoder", "--decoder", "vectors"], {"rows", "vectors"}),
    ("touch", ["--encoder"], {"rows"}),
    ("plan", ["--decoder", "vectors"], {"vectors"}),
    ("depth", ["--media", "image"], {"rows", "codes"}),
    ("sketch", ["--media", "image", "--decoder", "vectors"], {"vectors"}),
    ("bird_song", ["--media", "audio"], {"rows", "codes"}),
    ("gesture", ["--media", "video"], {"rows", "codes"}),
    ("pulse", ["--media", "timeseries", "--decoder", "vectors", "--encoder"], {"rows", "vectors"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "ids"), WAYS, ids=[name for name, *_ in WAYS])
def test_every_kind_passes_the_kit(folder, monkeypatch, capsys, name, options, ids):
    assert main(["plugins", "new", name, *options]) == 0
    for file in folder.rglob("*.py"):
        ast.parse(file.read_text())
        assert max(map(len, file.read_text().splitlines())) <= 120
    assert "$" not in "".join(file.read_text() for file in folder.rglob("*.py"))
    monkeypatch.syspath_prepend(str(folder / f"anyany-{name}"))
    plugins = Registry.isolated()
    plugins.register(importlib.import_module(f"anyany_{name}"), name)
    assert {spec.id for spec in (*plugins.encoders, *plugins.codecs)} == {f"{name}/{id}" for id in ids}
    media = importlib.import_module(f"anyany_{name}.media")
    given = {"np": np, "Image": Image, "Audio": Audio, "Video": Video, "TimeSeries": TimeSeries, **vars(media)}
    values = {}
    for node in ast.parse((folder / f"anyany-{name}" / "tests" / f"test_{name}.py").read_text()).body:
        if isinstance(node, ast.Assign):
            values[node.targets[0].id] = eval(compile(ast.Expression(node.value), "test", "eval"), given)
    assert values["IDS"] == sorted((f"{name}/{id}" for id in ids), key=lambda id: not id.endswith("rows"))
    for id in values["IDS"]:
        found = run(checks(id, plugins=plugins, sizes=values["SIZES"], refuses=values["REFUSED"]))
        assert [finding.detail for finding in found if finding.status == "fail"] == []


@pytest.mark.parametrize("name", ["Thermal", "thermal-camera", "2d", "class", "", "a b", "../up", "thermal\n"])
def test_a_name_that_cannot_be_one(folder, capsys, name):
    assert main(["plugins", "new", "--", name]) == 1
    assert "expected a name of lower-case letters, digits and '_'" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["image", "text", "motion"])
def test_a_name_that_is_taken(folder, capsys, name):
    assert main(["plugins", "new", name]) == 1
    assert "of that name is installed; choose another name" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(folder, capsys):
    (folder / "anyany-thermal").mkdir()
    (folder / "anyany-thermal" / "notes.txt").write_text("mine")
    assert main(["plugins", "new", "thermal"]) == 1
    assert "expected no such folder or an empty one" in capsys.readouterr().err
    assert made(folder) == {"anyany-thermal/notes.txt"}
    (folder / "anyany-thermal" / "notes.txt").unlink()
    assert main(["plugins", "new", "thermal"]) == 0


def test_nothing_is_left_where_writing_fails(folder, monkeypatch):
    written = []

    def fails(self, text, encoding):
        written.append(self)
        if len(written) == 4:
            raise OSError(28, "No space left on device", str(self))
        return self.write_bytes(text.encode(encoding))

    monkeypatch.setattr(Path, "write_text", fails)
    assert main(["plugins", "new", "thermal"]) == 1
    assert len(written) == 4
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_from_an_empty_folder_to_a_reply(site, folder, capsys):
    """Written, built, installed as a wheel, listed, checked, trained for a few steps, and it answers."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install -r requirements-dev.txt")
    assert main(["plugins", "new", "thermal", "--encoder", "--decoder", "codes"]) == 0
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "wheels", "./anyany-thermal"]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = (folder / "wheels").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        points = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert archive.read(points).decode().split() == ["[anyany]", "thermal", "=", "anyany_thermal"]
    install = [*pip, "install", "--no-deps", "--no-index", "--upgrade", "--target", str(site.folder), str(built)]
    subprocess.run(install, check=True, capture_output=True)
    program = (folder / "anyany-thermal" / "train.py").read_text()
    shutil.rmtree(folder / "anyany-thermal")  # what follows knows the wheel alone

    only = {"ANYANY_PLUGINS": "thermal", "OMP_NUM_THREADS": "1"}
    listed = site.anyany("plugins", "list", "--json", **only)
    (record,) = [r for r in json.loads(listed.stdout) if r["status"] != "blocked"]
    assert record["components"] == ["modality:thermal", "thermal/rows", "thermal/codes"]
    checked = site.anyany("plugins", "check", "thermal", "--json", **only)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    found = json.loads(checked.stdout)["checks"]
    assert {c["status"] for c in found} == {"ok"}
    assert len({c["check"] for c in found}) >= 45

    (site.folder / "train.py").write_text(program)
    trained = site.run("train.py", "--steps", "5", **only)
    assert trained.returncode == 0, trained.stderr
    assert "odd: reads" in trained.stdout
    assert "odd: says Thermal(values=" in trained.stdout
