"""The library is built once, found again, and a file that is not what its name says is built anew."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from anyany_kernels.native import BuildError, Library, shared_library
from anyany_kernels.native.build import FLAGS, cache_folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    return cache_folder()


QUICK = tuple(flag if flag != "-O3" else "-O0" for flag in FLAGS)


def compiler(folder: Path, text: str) -> str:
    """A program in the place of the compiler."""
    file = folder / "compiler"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_it_is_built_once_and_runs(cache):
    first = shared_library(flags=QUICK)
    made = first.stat().st_mtime_ns
    assert shared_library(flags=QUICK) == first
    assert first.stat().st_mtime_ns == made
    assert Library(str(first)).isa
    assert [file.name for file in cache.iterdir()] == [first.name]  # nothing is left of the build


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-8] + bytes(8), lambda b: b""])
def test_a_damaged_file_is_built_anew(cache, damage):
    file = shared_library(flags=QUICK)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    again = shared_library(flags=QUICK)
    assert len(again.read_bytes()) == len(whole)
    assert Library(str(again)).isa
    assert len(list(cache.iterdir())) == 1


def test_other_flags_make_another_file(cache):
    assert shared_library(flags=QUICK) != shared_library(flags=(*QUICK, "-DANYANY_ONE_LANE"))


def test_processes_that_build_at_once_all_get_a_whole_file(cache):
    code = (
        "from anyany_kernels.native import Library, shared_library\n"
        f"print(Library(str(shared_library(flags={QUICK!r}))).isa)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in running}) == 1
    assert all(process.returncode == 0 for process in running)


def test_without_a_compiler_it_says_what_to_install(cache, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BuildError, match=r"no-such-compiler.*install"):
        shared_library()


@pytest.mark.parametrize(
    ("text", "message"),
    [("echo 'x.c:1: error: odd' >&2; exit 1", "error: odd"), ("exit 3", "exit code 3"), ("exit 0", "exit code 0")],
)
def test_a_compiler_that_fails_is_quoted(cache, tmp_path, monkeypatch, text, message):
    monkeypatch.setenv("CC", compiler(tmp_path, text))
    with pytest.raises(BuildError, match=message):
        shared_library()
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BuildError, match=r"file.*XDG_CACHE_HOME"):
        shared_library()


def test_what_is_no_library_is_an_error(tmp_path):
    (tmp_path / "odd.so").write_text("odd")
    with pytest.raises(BuildError, match=r"odd\.so"):
        Library(str(tmp_path / "odd.so"))
