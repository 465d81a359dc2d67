"""The console script: the first word picks a module, and only that module is imported.

Exit codes: 0 fine, 1 a typed error or a failed check, 2 wrong usage; 128 + the signal where one ended the
command, as a shell counts.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from anyany._version import __version__
from anyany.errors import AnyanyError

COMMANDS = {
    "demo": ("anyany.cli.demo", "see the embedded model at work"),
    "generate": ("anyany.cli.generate", "answer a prompt of text and media files"),
    "plugins": ("anyany.cli.plugins", "list, show and check installed plugins"),
    "train": ("anyany.cli.train", "run a training recipe"),
    "eval": ("anyany.cli.eval", "measure a model on evaluation tasks"),
    "bench": ("anyany.cli.bench", "measure speed against the limits of the machine"),
}
"""Each command: its module, which has ``add_arguments(parser)`` and ``run(args) -> int``, and one line of help."""

INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Words after the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _command(words) if words and words[0] in COMMANDS else _no_command(words)
        sys.stdout.flush()  # here, so that a closed pipe is noticed here
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has left; without this the interpreter would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except AnyanyError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
    return 1


def _command(words: list[str]) -> int:
    name, *rest = words
    module, summary = COMMANDS[name]
    command = import_module(module)
    parser = argparse.ArgumentParser(prog=f"anyany {name}", description=_sentence(summary), allow_abbrev=False)
    command.add_arguments(parser)
    try:
        args = parser.parse_args(rest)
    except SystemExit as done:  # argparse has printed help (0), or what is wrong with the usage (2)
        return int(done.code or 0)
    return int(command.run(args))


def _no_command(words: list[str]) -> int:
    """``--help``, ``--version``, or wrong usage."""
    lines = "\n".join(f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="anyany",
        usage="anyany [--help] [--version] COMMAND ...",
        description="Any-to-any multimodal models, where a modality is a wheel.",
        epilog=f"commands:\n{lines}\n\n'anyany COMMAND --help' tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"anyany {__version__}")
    try:
        if words and words[0].startswith("-"):
            parser.parse_args(words[:1])
        if words and not words[0].startswith("-"):
            close = difflib.get_close_matches(words[0], COMMANDS, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"commands are {', '.join(COMMANDS)}"
            parser.error(f"unknown command {words[0]!r}; {hint}")
    except SystemExit as done:
        return int(done.code or 0)
    parser.print_help(sys.stderr)
    return 2


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


if __name__ == "__main__":  # for launchers that run a module, such as torchrun
    sys.exit(main())
