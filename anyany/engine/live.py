"""One request in the engine, and how many rows of what it asks for pass in a step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from anyany.backbone.cache import Run
from anyany.backbone.lora import LoRA
from anyany.engine.opening import Open, cuts, last_cut
from anyany.engine.prefixes import Trail
from anyany.heads.steps import Fork, Step

Conversation = Generator[Any, Any, None]


@dataclass(eq=False)
class Live:
    """One request in the engine.

    Attributes:
        conversation: The generator that asks.
        draw: Its random generator; nobody else draws from it.
        failed: Called with the exception when the request fails.
        adapter: What its rows go through beside the weights.
        runs: Its own run, then those of its branches.
        trail: What others may find in its run.
        ask: What it waits for.
        begun: It has read its prompt.
        read: Hidden states of the rows of its ask that have passed, piece by piece.
        steps: Engine steps in which it took part.
        cancelled: Closed before the next step.
    """

    conversation: Conversation
    draw: torch.Generator
    failed: Callable[[BaseException], None]
    adapter: LoRA | None = None
    runs: list[Run] = field(default_factory=list)
    trail: Trail | None = None
    ask: Open | Step | Fork | None = None
    begun: bool = False
    read: list[Tensor] = field(default_factory=list)
    steps: int = 0
    cancelled: bool = False
    done: bool = False

    def cancel(self) -> None:
        """Close the request; its rows are free at the engine's next step."""
        self.cancelled = True

    def passed(self, rows: int, hidden: Tensor) -> Tensor | None:
        """Note the hidden states ``(G, rows, D)`` of the next rows of its ask; those of all when it is through."""
        ask: Step = self.ask  # type: ignore[assignment]
        self.steps += 1
        self.read.append(hidden)
        if rows < len(ask.rows):
            self.ask = piece(ask, rows, len(ask.rows))
            return None
        whole = hidden if len(self.read) == 1 else torch.cat(self.read, dim=1)
        self.read = []
        return whole

    def answered(self) -> None:
        """Its ask is through: rows of a prompt have their names already, others have those that the ask gives them."""
        ask: Step = self.ask  # type: ignore[assignment]
        if self.begun and ask.keep and self.trail is not None:
            self.trail.add(ask.content)
        self.begun = True


def piece(ask: Step, start: int, stop: int) -> Step:
    """Rows ``[start, stop)`` of an ask; only the last are picked from."""
    if stop - start == len(ask.rows):
        return ask
    return replace(
        ask, rows=ask.rows[start:stop], coordinates=ask.coordinates[start:stop],
        sees=None if ask.sees is None else ask.sees[start:stop] - start,
        pick=ask.pick if stop == len(ask.rows) else None, content=None,
    )  # fmt: skip


def portions(asking: Sequence[Live], most: int) -> list[tuple[Live, int]]:
    """Who takes part in a step, and with how many rows.

    While someone is in the middle of a reply, prompts pass in pieces of together ``most`` rows a step, in order, so
    that nobody waits for a long one (Agrawal et al. 2024, arXiv 2403.02310). A piece ends where no row of it sees
    beyond: a span whose rows see each other both ways passes whole, even where it is longer.
    """
    everything = [(request, len(request.ask.rows)) for request in asking]  # type: ignore[union-attr]
    if not any(request.begun for request in asking):
        return everything
    out, left = [], most
    for request, rows in everything:
        if request.begun:
            out.append((request, rows))
        elif left > 0:
            rows = _up_to(request.ask, left)  # type: ignore[arg-type]
            out.append((request, rows))
            left -= rows
    return out


def _up_to(ask: Step, most: int) -> int:
    """How many rows pass before a cut: at most ``most``, or what comes before the first."""
    rows = len(ask.rows)
    if rows <= most or not ask.keep or (ask.look == "full" and ask.sees is None):
        return rows
    if ask.sees is None:
        return most
    places = cuts(ask.sees.cpu().numpy())
    return last_cut(places, most) or int(places[0]) if len(places) else rows
