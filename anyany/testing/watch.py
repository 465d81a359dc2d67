"""What code does outside its own memory: files that it writes, connections, processes, environment variables.

Python reports these through audit hooks (PEP 578). A hook stays for the life of the process, so one is installed, when
something is first watched, and it hears nothing while nothing is.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_TOUCHING = {
    "os.link", "os.mkdir", "os.putenv", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate",
    "os.unsetenv", "os.exec", "os.fork", "os.posix_spawn", "os.system", "subprocess.Popen",
    "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
}  # fmt: skip
_watching: list[Watch] = []
_installed: list[bool] = []


class Watch:
    """Collects in ``events``, while it is open, what happened outside, such as ``"open data.bin for writing"``."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __enter__(self) -> Watch:
        if not _installed:
            sys.addaudithook(_hear)
            _installed.append(True)
        _watching.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _watching.remove(self)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        said = _opened(*arguments)
    else:
        said = f"{event} {str(arguments[0]) if arguments else ''}".strip() if event in _TOUCHING else ""
    if said and "__pycache__" not in said:  # Python's own store of bytecode
        for watch in _watching:
            watch.events.append(said)


def _opened(path: Any, mode: str | None, flags: int) -> str:
    if isinstance(path, int) or os.fspath(path) in (os.devnull, os.devnull.encode()):
        return ""
    writes = bool(set(mode) & set("wax+")) if mode else bool(flags & _WRITES)
    return f"open {os.fspath(path)!s} for writing" if writes else ""
