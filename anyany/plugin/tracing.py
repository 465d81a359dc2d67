"""``ANYANY_TRACE=1``: a line on stderr for each call of a hook, in every process that discovers.

A hook may be a generator, so a call ends when all that it gives has been taken.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from anyany.plugin.records import error_text

Call = Callable[[], Iterable[Iterable[Any]]]
"""Calls a hook of one plugin; gives what each of its implementations returns."""


def called(call: Call) -> list[Any]:
    """All that a hook gives."""
    return [spec for returned in call() for spec in returned]


def traced(plugin: str, hook: str, call: Call) -> list[Any]:
    """The same, and a line that says whose hook it was, in which process, how long it took, and what came back."""
    began = time.perf_counter()
    outcome = ""
    try:
        found = called(call)
        outcome = ", ".join(map(_word, found)) or "nothing"
        return found
    except BaseException as error:  # told, and left to whoever called
        outcome = f"raised {error_text(error)}"
        raise
    finally:
        spent = (time.perf_counter() - began) * 1000
        print(f"anyany[{os.getpid()}] {plugin}: {hook} -> {outcome} ({spent:.1f} ms)", file=sys.stderr, flush=True)


def _word(spec: Any) -> str:
    """Id of a spec, the word of a modality; of what is no spec, its type."""
    word = getattr(spec, "id", None) or getattr(spec, "name", None)
    return str(word) if word else type(spec).__name__
