"""The first word, exit codes, and what goes where when something is wrong."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import types
from importlib import import_module

import pytest

from anyany import __version__
from anyany.cli import main as cli
from anyany.cli.main import COMMANDS, main
from anyany.errors import MediaDecodeError


@pytest.fixture
def command(monkeypatch):
    """A command ``juggle`` whose ``run`` is given by the test."""

    def make(run):
        module = types.ModuleType("juggle_command")
        module.add_arguments = lambda parser: parser.add_argument("--balls", type=int, default=3)
        module.run = run
        monkeypatch.setitem(sys.modules, "juggle_command", module)
        monkeypatch.setitem(COMMANDS, "juggle", ("juggle_command", "keep balls in the air"))

    return make


def fail(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_its_two_functions_and_its_help(name, capsys):
    module = import_module(COMMANDS[name][0])
    module.add_arguments(argparse.ArgumentParser())
    assert callable(module.run)
    assert main([name, "--help"]) == 0
    assert f"usage: anyany {name}" in capsys.readouterr().out


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"anyany {__version__}\n"
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown and summary in shown for name, (_, summary) in COMMANDS.items())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "usage: anyany"),
        (["plugin"], "unknown command 'plugin'; did you mean 'plugins'?"),
        (["genrate", "hello"], "did you mean 'generate'?"),
        (["qqq"], "commands are demo, generate"),
        (["--verbose", "plugins"], "unrecognized arguments: --verbose"),
        (["plugins"], "required"),
        (["plugins", "lst"], "lst"),
        (["plugins", "show"], "ID"),
        (["plugins", "list", "image"], "unrecognized arguments: image"),
        (["plugins", "list", "--js"], "--js"),
        (["generate"], "PART"),
        (["generate", "hello", "--seed", "one"], "--seed"),
        (["generate", "hello", "--temp", "1"], "--temp"),
        (["train"], "RECIPE"),
    ],
)
def test_wrong_usage_is_2_and_on_stderr(words, hint, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert hint in err


def test_arguments_reach_the_command_and_its_code_comes_back(command):
    seen = []
    command(lambda args: seen.append(args.balls) or 1)
    assert main(["juggle", "--balls", "5"]) == 1
    assert seen == [5]


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (MediaDecodeError("part 1: damaged"), 1, "error: part 1: damaged\n"),
        (PermissionError(13, "Permission denied", "out"), 1, "error: out: Permission denied\n"),
        (OSError("disk gone"), 1, "error: system: disk gone\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_end_in_a_code_and_no_traceback(command, capsys, error, code, stderr):
    command(fail(error))
    assert main(["juggle"]) == code
    assert capsys.readouterr() == ("", stderr)


def test_a_bug_is_not_dressed_up_as_a_users_error(command):
    command(fail(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        main(["juggle"])


def test_words_come_from_the_process_by_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["anyany", "--version"])
    assert cli.main() == 0
    assert __version__ in capsys.readouterr().out


def test_a_reader_that_leaves_is_not_an_error(site):
    program = "import sys; from anyany.cli.main import main; sys.exit(main())"
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", program, "plugins", "list", "--json"],
            stdout=pipe, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 141


def test_only_the_module_of_the_command_is_imported(site):
    done = site.run("-c", "import sys; from anyany.cli.main import main; main(['--help']); print(*sys.modules)")
    loaded = {name for name in done.stdout.split() if name.startswith("anyany")}
    assert "anyany.cli.main" in loaded
    assert loaded <= {"anyany", "anyany._version", "anyany.errors", "anyany.cli", "anyany.cli.main"}
    assert "torch" not in done.stdout.split()
