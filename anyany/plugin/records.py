"""What became of each plugin: one frozen record, with its reason kept as text.

Text and not exceptions, because an exception may be empty, hold live modules, or refuse to be copied.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from anyany.plugin.specs import Spec

Status = Literal["ok", "blocked", "unmet", "conflict", "incompatible", "failed"]


@dataclass(frozen=True, kw_only=True)
class PluginRecord:
    """One plugin of this machine.

    Attributes:
        name: The name of its entry point, which is the plugin's name.
        distribution: The distribution that brings it; empty when registered by hand.
        version: Version of that distribution; empty when unknown.
        module: The manifest module, as the entry point names it.
        status: ``ok``; ``blocked`` by the user; ``unmet``: a requirement of its distribution is missing;
            ``conflict``: another plugin claims the same word; ``incompatible``: written for another
            contract; ``failed``: its own code or its specs are at fault.
        reason: Why it is not ``ok``, in one line; empty otherwise.
        traceback: Text of the traceback, where its own code raised.
        specs: What it declares; empty unless ``ok``.
    """

    name: str
    distribution: str = ""
    version: str = ""
    module: str = ""
    status: Status = "ok"
    reason: str = ""
    traceback: str = ""
    specs: tuple[Spec, ...] = ()

    @property
    def healthy(self) -> bool:
        """Loaded, or left out because the user said so."""
        return self.status in ("ok", "blocked")

    @property
    def origin(self) -> str:
        """Distribution and version, as a message shows them."""
        return f"{self.distribution} {self.version}".strip() or "registered by hand"

    def explain(self) -> str:
        """One line: name, origin, status and reason."""
        return f"{self.name} ({self.origin}): {self.status}" + (f": {self.reason}" if self.reason else "")


def error_text(error: BaseException) -> str:
    """``Type: message`` in one line, even for exceptions that cannot print themselves."""
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = ""
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def traceback_text(error: BaseException) -> str:
    """The traceback as text, even for exceptions that cannot print themselves."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return error_text(error)


def to_json(value: Any) -> Any:
    """Records and specs as plain dicts, lists and scalars; ``kind`` names the type of a spec."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = {} if isinstance(value, PluginRecord) else {"kind": type(value).__name__}
        return kind | {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value
