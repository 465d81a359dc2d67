"""The arrows between packages, what an import costs, and words that the code may not hold."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import anyany

CORE = Path(anyany.__file__).parent
ROOT = CORE.parent
PLUGINS = sorted(p for p in ROOT.glob("plugins/*/anyany_*") if p.is_dir())
KERNELS = sorted(p for p in ROOT.glob("kernels/anyany_*") if p.is_dir())

LAYERS = [  # a package may import those of lower layers, and none of its own
    {"errors", "_version"},
    {"media"},
    {"parts"},
    {"plugin"},
    {"sequence"},
    {"native"},
    {"backbone", "heads"},
    {"engine"},
    {"model"},
    {"training", "importers", "testing"},
    {"mini"},
    {"demo", "eval", "bench"},
    {"serve"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
UPWARD = {  # imports that go up, inside a function only, and why
    ("model", "importers"): "load() hands a directory that is not ours to the importer that knows it",
    ("training", "eval"): "a recipe may name tasks, which are measured between steps",
}
LAZY = {  # imports that go down, inside a function only, and why
    ("parts", "media"): "a part is made of arrays without any media library; files need one",
}
FOR_PLUGINS = {"errors", "heads", "media", "parts", "plugin", "testing"}


class Import(NamedTuple):
    """One imported module, where, and whether it happens at import, in a function, or for types only."""

    file: Path
    line: int
    module: str
    when: str


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def files(*folders: Path) -> list[Path]:
    return [file for folder in folders for file in sorted(folder.rglob("*.py"))]


def imports(file: Path) -> Iterator[Import]:
    yield from _imports(file, tree(file), "import")


def _imports(file: Path, node: ast.AST, when: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inner = when
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = "function"
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inner = "types"
        if isinstance(child, ast.Import):
            yield from (Import(file, child.lineno, alias.name, when) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            parts = [f"{child.module}.{alias.name}" for alias in child.names]
            whole = child.module == "anyany"  # ``from anyany import parts`` names a package
            yield from (Import(file, child.lineno, module, when) for module in (parts if whole else [child.module]))
        yield from _imports(file, child, inner)


def package(module: str) -> str | None:
    """``anyany.model.build`` -> ``model``; ``None`` for what is not ours."""
    head, _, rest = module.partition(".")
    return rest.split(".")[0] if head == "anyany" and rest else None


def own(file: Path) -> str:
    return file.relative_to(CORE).parts[0].removesuffix(".py")


def crossing() -> Iterator[tuple[str, str, Import]]:
    """Imports of one core package by another."""
    for file in files(CORE):
        for found in imports(file):
            target = package(found.module)
            if target is not None and target != own(file) and own(file) != "__init__":
                yield own(file), target, found


def at(found: Import) -> str:
    return f"{found.file.relative_to(ROOT)}:{found.line} imports {found.module}"


# Arrows.


def test_every_package_has_a_layer():
    found = {p.name for p in CORE.iterdir() if p.is_dir() and any(p.glob("*.py"))} | {
        p.stem for p in CORE.glob("*.py") if p.stem != "__init__"
    }
    assert found <= set(LEVEL), f"give {found - set(LEVEL)} a place in LAYERS"


def test_arrows_go_down_only():
    wrong = [
        at(found)
        for source, target, found in crossing()
        if LEVEL[target] >= LEVEL[source] and not ((source, target) in UPWARD and found.when == "function")
    ]
    assert not wrong, "\n".join(wrong)


def test_some_imports_wait_for_their_use():
    wrong = [at(f) for source, target, f in crossing() if (source, target) in LAZY and f.when == "import"]
    assert not wrong, "\n".join(wrong)


def test_every_exception_is_used():
    seen = {(source, target) for source, target, _ in crossing()}
    assert set(UPWARD) | set(LAZY) <= seen


def test_plugins_import_the_contract_the_parts_and_the_heads():
    assert PLUGINS
    names = {p.name for p in PLUGINS}
    wrong = []
    for file in files(*PLUGINS):
        for found in imports(file):
            target = package(found.module)
            if target is not None and target not in FOR_PLUGINS:
                wrong.append(at(found))
            if found.module.split(".")[0] in names and file.name == "__init__.py":
                mine = file.relative_to(ROOT).parts[2]
                assert found.module.split(".")[0] == mine, f"a manifest imports no other plugin: {at(found)}"
    assert not wrong, "\n".join(wrong)


def test_the_core_imports_no_plugin_and_the_kernels_import_nothing_of_ours():
    names = {p.name for p in PLUGINS}
    for file in files(CORE):
        for found in imports(file):
            assert found.module.split(".")[0] not in names, at(found)
    for file in files(*KERNELS):
        for found in imports(file):
            assert found.module.split(".")[0] != "anyany", at(found)


def test_what_is_imported_at_once_is_a_dependency():
    """Anything else is imported where it is used, and named in an error when it is missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = {re.split(r"[>=<\[ ]", d)[0] for d in project["dependencies"]} | {"anyany", "anyany_kernels"}
    wrong = [
        at(found)
        for file in files(CORE)
        for found in imports(file)
        if found.when == "import"
        and (top := found.module.split(".")[0]) not in allowed
        and top not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


# What an import costs.


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


HEAVY = "torch transformers PIL av soundfile pandas pyarrow torchvision torchaudio timm triton tensorboard"


@pytest.mark.parametrize(
    "statement",
    [
        "import anyany; dir(anyany); anyany.__version__",
        "from anyany import Image, Audio, Video, TimeSeries, Motion; Image.from_array([[0.5]]).key()",
        "import anyany.plugin, anyany.errors, anyany.testing",
        "from anyany.plugin.registry import registry; registry().encoders; registry().records",
    ],
)
def test_light_things_import_nothing_heavy(statement):
    out = run(f"{statement}\nimport sys\nprint(*(set(sys.argv[1].split()) & set(sys.modules)))", HEAVY)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == ""


BLOCKED = """
    import importlib, importlib.abc, pkgutil, sys

    names = set(sys.argv[1].split())

    class Blocks(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in names:
                raise ModuleNotFoundError(f"blocked: {name}", name=name)

    sys.meta_path.insert(0, Blocks())
    import anyany
    from anyany.errors import MissingPackageError

    count = 0
    for module in pkgutil.walk_packages(anyany.__path__, "anyany."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
                count += 1
            except MissingPackageError as error:  # what is made of files may ask for a media library, by its name
                if module.name.split(".")[1] not in ("mini", "demo", "eval") or "pip install" not in str(error):
                    raise
    print(count)
"""


@pytest.mark.slow
@pytest.mark.parametrize("names", ["torchvision torchaudio transformers timm triton", HEAVY.replace("torch ", "")])
def test_the_core_is_importable_without_what_is_optional(names):
    out = run(BLOCKED, names)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) > 60


# The public surface.


@pytest.mark.parametrize("name", anyany.__all__)
def test_public_names_exist_and_are_documented(name):
    value = getattr(anyany, name)
    if name != "__version__":
        assert inspect.getdoc(value)
        assert value.__module__.startswith("anyany.")
    assert name in dir(anyany)


PACKAGES = sorted(p.parent.name for p in CORE.glob("*/__init__.py"))


@pytest.mark.parametrize("name", PACKAGES)
def test_what_a_package_exports_exists(name):
    module = import_module(f"anyany.{name}")
    assert module.__doc__
    for each in getattr(module, "__all__", ()):
        assert getattr(module, each, None) is not None, each


def test_an_unknown_name_is_met_with_the_known_ones():
    with pytest.raises(AttributeError, match="Image"):
        _ = anyany.Picture
    with pytest.raises(ImportError):
        from anyany import Picture  # noqa: F401


# What the code may not hold.

SHIPPED = files(CORE, *PLUGINS, *KERNELS)
TESTED = [f for f in SHIPPED if "tests" not in f.parts]


@pytest.mark.parametrize("file", TESTED, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_asserts_no_pickle_no_stubs(file):
    for node in ast.walk(tree(file)):
        line = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Assert), f"{line}: assert vanishes under python -O; raise a typed error"
        if isinstance(node, ast.Name):
            assert node.id != "NotImplementedError", line
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "torch.load", "torch.save", "__import__", "os.system"), line
            if called in ("np.load", "numpy.load"):
                assert "allow_pickle=False" in ast.unparse(node), line
            assert not any(k.arg == "shell" for k in node.keywords if called.startswith("subprocess.")), line
    for found in imports(file):
        top = found.module.split(".")[0]
        assert top not in ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"), at(found)
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text), file


WORDS = {"image", "audio", "video", "timeseries", "motion"}
KNOWS_WORDS = {"parts", "media", "mini", "demo", "cli", "eval"}  # every other package treats all modalities alike
DEFINITIONS = {  # single files that name them, and why
    "__init__.py": "the five standard media types are public names",
    "plugin/standard.py": "defines the five standard words",
}


def words(text: str) -> set[str]:
    """Modality words in a name or a text: ``image_size``, ``ImageHead`` and ``"an image"`` all hold one."""
    split = re.sub(r"([a-z])([A-Z])", r"\1 \2", text).replace("_", " ").lower()
    found = {w.removesuffix("s") if w != "timeseries" else w for w in re.findall(r"[a-z]+", split)}
    return WORDS & found


def docstrings(node: ast.Module) -> set[int]:
    """Ids of constants that are documentation: of modules, classes and functions, and after attributes."""
    return {id(n.value) for n in ast.walk(node) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}


def named(file: Path) -> Iterator[tuple[int, str]]:
    """Identifiers and texts of a file that name a modality, documentation left out."""
    documented = docstrings(tree(file))
    for node in ast.walk(tree(file)):
        texts = []
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            texts = [node.value]
        elif isinstance(node, ast.Name):
            texts = [node.id]
        elif isinstance(node, ast.Attribute):
            texts = [node.attr]
        elif isinstance(node, ast.arg | ast.keyword):
            texts = [node.arg or ""]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.alias):
            texts = [node.name]
        for text in texts:
            if words(text):
                yield getattr(node, "lineno", 0), text


def test_the_core_knows_no_modality():
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {text!r}"
        for file in files(CORE)
        if own(file) not in KNOWS_WORDS and str(file.relative_to(CORE)) not in DEFINITIONS
        for line, text in named(file)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_search_for_modality_words_finds_them():
    for text in ("image", "n_images", "ImageHead", "an audio clip", "video_fps", "timeseries", "Motions"):
        assert words(text), text
    for text in ("imagine", "emotion", "videotape", "audition", "time"):
        assert not words(text), text
    assert all(list(named(CORE / name)) for name in DEFINITIONS)
