"""The gallery of third-party plugins: each stands on the public contract alone, installs, conforms, and learns.

A folder of ``examples/plugins`` is a distribution with tests and a ``train.py``. ``python train.py --quick`` takes at
most 40 s on one quiet core; its last line is JSON: ``{name: {"value": ..., "baseline": ...}}``, where more is better.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from fake_site import FakeSite, site

__all__ = ["site"]

ROOT = Path(__file__).parent.parent
GALLERY = sorted(file.parent for file in (ROOT / "examples" / "plugins").glob("*/pyproject.toml"))

FLOORS: dict[str, dict[str, float]] = {
    "actions": {"cartpole": 200.0},
    "inertial": {"reads": 0.8, "makes": 0.5},
    "midi": {"writes": 0.25, "reads": 0.5, "goes_on": 0.6},
    "points": {"reads": 0.4, "makes": 0.3},
}
"""What a quick run reaches at least, by folder and figure; the baseline has to be below it."""

CONTRACT = {"anyany", "anyany.plugin", "anyany.parts", "anyany.errors"}
"""What a plugin imports."""
FOR_TESTS = CONTRACT | {"anyany.testing"}
FOR_PROGRAMS = CONTRACT | {
    "anyany.plugin.registry", "anyany.backbone", "anyany.model", "anyany.training.loop", "anyany.training.recipe",
    "anyany.eval.run",
}  # fmt: skip
"""What a program that trains and measures imports, as the pages do."""

each = pytest.mark.parametrize("folder", GALLERY, ids=lambda folder: folder.name)


def project(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def plugin(folder: Path) -> tuple[str, str]:
    """Name of the plugin, and its package."""
    ((name, package),) = project(folder)["entry-points"]["anyany"].items()
    return name, package


def allowed(file: Path, folder: Path) -> set[str]:
    inside = file.relative_to(folder).parts
    return FOR_TESTS if inside[0] == "tests" else FOR_PROGRAMS if len(inside) == 1 else CONTRACT


def imports(file: Path) -> Iterator[tuple[int, str, str, bool]]:
    """Line, module and name of all that is imported, and whether at once, or where a function runs."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "", not node.col_offset) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import hides where it leads"
            yield from ((node.lineno, node.module or "", alias.name, not node.col_offset) for alias in node.names)


@cache
def shown(module: str) -> str:
    """All that pages, and the program of ``anyany plugins new``, import from a module."""
    files = [*(ROOT / "docs").glob("*.md"), *(ROOT / "anyany" / "cli" / "templates").glob("*.txt")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    return " ".join(re.findall(rf"^from {re.escape(module)} import (.+)$", text, re.MULTILINE))


def words(requirements: list[str]) -> set[str]:
    """Names of distributions, as they are imported."""
    known = {"scikit_learn": "sklearn", "pillow": "PIL"}
    names = [re.split(r"[ \[<>=;]", each)[0].replace("-", "_") for each in requirements]
    return {known.get(name, name) for name in names}


@each
def test_stands_on_the_public_contract_alone(folder):
    own = plugin(folder)[1]
    for file in sorted(folder.rglob("*.py")):
        for line, module, name, _ in imports(file):
            at = f"{file.relative_to(ROOT)}:{line}: {module} {name}"
            if module.split(".")[0] == "anyany":
                assert module in allowed(file, folder), f"{at}: not public there"
                assert not name.startswith("_"), at
                if module not in FOR_TESTS:
                    assert re.search(rf"\b{name}\b", shown(module)), f"{at}: neither a page nor a template imports it"
            assert file.name != "__init__.py" or module.split(".")[0] in {"anyany", own}, f"{at}: manifests are light"


@each
def test_what_it_imports_is_what_it_requires(folder):
    told = project(folder)
    required = words(told["dependencies"]) | {"numpy", "torch"}  # those of anyany itself
    extra = words([each for group in told.get("optional-dependencies", {}).values() for each in group])
    own = plugin(folder)[1]
    for file in sorted(folder.rglob("*.py")):
        inside = file.relative_to(folder).parts[0] == own
        for line, module, _, at_once in imports(file):
            top = module.split(".")[0]
            known = required if inside and at_once else required | extra | {"pytest"}
            assert top in known | {own, "__future__"} | sys.stdlib_module_names, f"{file}:{line}: {top}"


@each
def test_it_has_a_page_and_a_row_in_the_gallery(folder):
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert f"# {project(folder)['name']}" in page
    assert "python train.py" in page
    assert f"examples/plugins/{folder.name}" in (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")


def install(folder: Path, site: FakeSite, tmp_path: Path) -> dict[str, str]:
    """Build the wheel and install it, without a network; returns an environment in which it and its needs are found."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install -r requirements-dev.txt")
    source = tmp_path / folder.name
    shutil.copytree(folder, source, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheels = tmp_path / "wheels"
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(wheels), str(source)]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = wheels.glob("*.whl")
    target = [*pip, "install", "--no-deps", "--no-index", "--upgrade", "--target", str(site.folder), str(built)]
    subprocess.run(target, check=True, capture_output=True)
    for name in ("tests", "train.py"):
        (shutil.copytree if (folder / name).is_dir() else shutil.copy)(folder / name, site.folder / name)
    shutil.rmtree(source)  # what follows knows the wheel alone
    beside = [word.removeprefix("anyany_") for word in words(project(folder)["dependencies"])]
    return {
        "ANYANY_PLUGINS": ",".join([plugin(folder)[0], *beside]), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip


@pytest.mark.slow
@each
def test_a_wheel_that_is_healthy_and_conforms(folder, site, tmp_path):
    only = install(folder, site, tmp_path)
    name, package = plugin(folder)
    listed = site.anyany("plugins", "list", "--json", **only)
    (record,) = [record for record in json.loads(listed.stdout) if record["name"] == name]
    assert (record["status"], record["module"]) == ("ok", package), record["reason"]
    assert any(component.startswith(f"{name}/") for component in record["components"])

    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", ".", "-c", os.devnull]
    tested = site.run("-m", "pytest", *options, "-o", "markers=slow: takes more than a few seconds", "tests", **only)
    assert tested.returncode == 0, tested.stdout[-4000:] + tested.stderr
    passed = re.search(r"(\d+) passed", tested.stdout)
    assert passed
    assert int(passed[1]) >= 45, tested.stdout[-200:]


@pytest.mark.slow
@each
def test_a_quick_run_learns(folder, site, tmp_path):
    trained = site.run("train.py", "--quick", **install(folder, site, tmp_path))
    assert trained.returncode == 0, trained.stderr
    figures = json.loads(trained.stdout.splitlines()[-1])
    assert figures.keys() == FLOORS[folder.name].keys()
    for name, floor in FLOORS[folder.name].items():
        assert figures[name]["value"] >= floor > figures[name]["baseline"], (name, figures[name])
