"""Token ids -> text as it comes, with stop strings that may cross token borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Decoder(Protocol):
    """Takes one id at a time; returns text once it is whole characters."""

    def step(self, token: int) -> str | None:
        """Text that became complete with this id."""


class TextStream:
    """Text of one part.

    What could be the start of a stop string is held back until it is certain. Characters whose bytes
    are incomplete are held back by the decoder.
    """

    def __init__(self, decoder: Decoder, stop: Sequence[str] = ()) -> None:
        self._decoder = decoder
        self._stop = stop
        self._held = ""
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take an id; return the text that may be shown now."""
        self._held += self._decoder.step(token) or ""
        cut = min((i for i in (self._held.find(s) for s in self._stop) if i >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            return self._show(cut, drop=True)
        return self._show(len(self._held) - self._pending())

    def close(self) -> str:
        """Return what was held back; no stop string came."""
        return self._show(len(self._held))

    def _pending(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        for length in range(min(len(self._held), max(map(len, self._stop), default=0)), 0, -1):
            if any(s.startswith(self._held[-length:]) for s in self._stop):
                return length
        return 0

    def _show(self, count: int, *, drop: bool = False) -> str:
        shown = self._held[:count]
        self._held = "" if drop else self._held[count:]
        self.text += shown
        return shown
