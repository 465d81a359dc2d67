"""The docs are true: their Python runs, their output, links and commands are right, and they build.

A Python or TOML block whose first line is ``# path/to/file`` is written to that file instead. A text block
right behind a Python block is what that block prints; ``...`` stands for anything.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import doctest
import importlib
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from anyany import Audio, Image, Motion, TimeSeries, Video
from anyany.cli.main import COMMANDS
from anyany.parts import Skeleton

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
READMES = [ROOT / "README.md", *sorted((ROOT / "plugins").glob("*/README.md"))]
PAGES = [*READMES, ROOT / "CONTRIBUTING.md", ROOT / "kernels" / "README.md", *DOCS]
WEIGHTS = ROOT / "anyany" / "mini" / "weights"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")
MINI = re.compile(r"""\bload\((["']mini["'])?\)""")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPENED = re.compile(r"""\b(Image|Audio|Video|TimeSeries|Motion)\.open\(["']([^"']+)["']\)""")
SHELLS = ("console", "bash", "sh", "shell")


class Block(NamedTuple):
    """A fenced block; ``follows``: nothing but blank lines stands between it and the block before it."""

    language: str
    code: str
    line: int
    follows: bool


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    text, found, end = page.read_text(encoding="utf-8"), [], 0
    for match in FENCE.finditer(text):
        follows = bool(found) and not text[end : match.start()].strip()
        found.append(Block(match[1], match[2], text.count("\n", 0, match.start()) + 1, follows))
        end = match.end()
    return found


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


# Python.


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.language == "python" for b in blocks(p))], ids=name)
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    try:
        run, left_out = execute(page, tmp_path)
    finally:
        for module in set(sys.modules) - before:
            if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[module]
    if left_out:
        pytest.skip(f"{run} blocks ran, {left_out} need the weights of mini, which are not in this checkout")


def execute(page: Path, folder: Path) -> tuple[int, int]:
    """Run the blocks of a page in one namespace; how many ran, and how many were left out for want of mini."""
    space: dict[str, Any] = {"__name__": "__main__"}
    lacking: set[str] = set()
    run = left_out = 0
    printed: str | None = None
    for block in blocks(page):
        if block.language == "text" and block.follows and printed is not None:
            same(page, block, printed)
        printed = None
        if block.language in ("python", "toml") and (file := FILE.match(block.code)):
            path = folder / file[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
        elif block.language == "python":
            stored, loaded = names(block.code)
            if not WEIGHTS.is_dir() and (MINI.search(block.code) or loaded & lacking):
                lacking |= stored
                left_out += 1
                continue
            lacking -= stored
            supply(block.code, folder)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                # Empty lines before it, so that a traceback shows the line of the page.
                exec(compile("\n" * block.line + block.code, name(page), "exec"), space)
            printed = out.getvalue()
            run += 1
    return run, left_out


def same(page: Path, block: Block, printed: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(block.code, printed, flags), (
        f"{name(page)}:{block.line}: expected\n{block.code}\ngot\n{printed}"
    )


def names(code: str) -> tuple[set[str], set[str]]:
    """Names that a block binds, and names that it reads."""
    stored: set[str] = set()
    loaded: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else stored).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            stored.add(node.name)
    return stored, loaded


def supply(code: str, folder: Path) -> None:
    """Small valid files in place of those that a reader would bring."""
    time = np.arange(4000) / 8000
    body = Skeleton(("hips", "head"), np.array([-1, 0]), np.array([[0, 0, 0], [0, 1, 0]], np.float32))
    made = {
        "Image": lambda: Image.from_array(np.pad(np.ones((20, 6)), (4, 11))),
        "Audio": lambda: Audio.from_array(0.3 * np.sin(2 * np.pi * 330 * time), 8000),
        "Video": lambda: Video.from_frames(np.zeros((8, 32, 32)), 8.0),
        "TimeSeries": lambda: TimeSeries.from_array(np.sin(np.arange(336) / 4), columns=["load"]),
        "Motion": lambda: Motion(np.tile([1.0, 0, 0, 0], (5, 2, 1)), np.zeros((5, 3)), body, 30.0),
    }
    for kind, file in OPENED.findall(code):
        if not (folder / file).exists():
            made[kind]().save(folder / file)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python\nprint(1 + 2)\n```\n\n```text\n4\n```\n", AssertionError),
        ("```python\nx = 1\n```\nProse.\n```python\nprint(y)\n```\n", NameError),
        ("```toml\n# a.toml\nb = 1\n```\n```python\nopen('c.toml')\n```\n", FileNotFoundError),
    ],
)
def test_a_wrong_page_is_noticed(text, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(text)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    with pytest.raises(error):
        execute(page, tmp_path)


def test_blocks_that_need_mini_are_left_out_with_what_builds_on_them(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "WEIGHTS", tmp_path / "none")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "".join(f"```python\n{c}\n```\n" for c in ("m = load()", "r = m()", "x = 1", "r", "m = 2", "m + x"))
    )
    assert execute(page, tmp_path) == (3, 3)


# Links.


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page):
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{name(page)}: {target} leads nowhere"
        if anchor:
            assert anchor in headings(path), f"{name(page)}: {target} has no such heading"


def headings(page: Path) -> set[str]:
    """Anchors of a page, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# Commands.


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page):
    for block in blocks(page):
        if block.language in SHELLS:
            for line in block.code.replace("\\\n", " ").splitlines():
                check_command(line.removeprefix("$ "), f"{name(page)}:{block.line}")


def check_command(line: str, where: str) -> None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return  # output, not a command
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[:1] != ["anyany"] or words[1:2] in (["--help"], ["--version"]):
        return
    assert words[1] in COMMANDS, f"{where}: no command {words[1]}"
    with contextlib.redirect_stderr(io.StringIO()) as complaint:
        try:
            parser(words[1]).parse_args(words[2:])
        except SystemExit as error:
            pytest.fail(f"{where}: {line}: {complaint.getvalue()}") if error.code else None


def parser(command: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=command, allow_abbrev=False)
    importlib.import_module(COMMANDS[command][0]).add_arguments(made)
    return made


def options(made: argparse.ArgumentParser) -> set[str]:
    """All words that a parser knows: long options, and actions with their own options."""
    found: set[str] = set()
    for action in made._actions:
        found |= {o for o in action.option_strings if o.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                found |= {word} | options(inner)
    return found - {"--help"}


def test_the_page_of_the_command_line_is_complete():
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for command, (module, _) in COMMANDS.items():
        if importlib.util.find_spec(module) is not None:
            assert f"anyany {command}" in text
            assert {o for o in options(parser(command)) if o not in text} == set(), command


# The build.


@pytest.mark.slow
def test_the_docs_build_without_warnings(tmp_path):
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install -r docs/requirements.txt")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs"), "html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in DOCS:
        assert (tmp_path / "html" / f"{page.stem}.html").exists()
