"""The conversation between whatever emits and the engine: what is asked, what is answered.

Everything that emits is a generator that yields an ``Ask`` and receives a ``Result``.

Shapes: n rows of one ask, D model width, B requests that share a head, G branches (1 without guidance).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from anyany.plugin.components import Look, Plan


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one request samples from one head.

    Attributes:
        temperature: 0 is greedy.
        top_k: Keep the k likeliest; 0 keeps all.
        top_p: Keep the smallest set whose probability reaches p.
        repetition_penalty: Divide (multiply, if negative) the logits of text tokens already in the reply.
        guidance: Strength of classifier-free guidance; 1 is off. Anything else needs a forked branch.
        steps: Integration steps of a flow head.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    guidance: float = 1.0
    steps: int = 8


@dataclass(frozen=True)
class Picked:
    """What a head sampled for B requests.

    Attributes:
        latents: ``(B, ...)``: token ids ``(B,)``, codes ``(B, books)`` or vectors ``(B, dim)``.
        end: ``(B,)`` bool: the head closes the span instead; the latents of such a row are unused.
        logprob: ``(B,)`` log-probability of the sample where the head defines one, else ``None``.
        extra: Further answers of the head by name, ``(B, ...)`` each (quantiles, for example).
    """

    latents: Tensor
    end: Tensor
    logprob: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)


class Picker(Protocol):
    """Anything that samples for a batch of requests: a head, or one side of it."""

    def pick(
        self,
        hidden: Tensor,  # (B, G, D)
        rules: Sequence[Sampling],
        draws: Sequence[torch.Generator],
        states: Sequence[Any],
    ) -> Picked:
        """Sample for B requests at once; request b uses only ``rules[b]``, ``draws[b]``, ``states[b]``."""


@dataclass(frozen=True)
class Pick:
    """Names the head and the rule, so that the engine samples for all requests that share a head.

    ``state`` is whatever the picker needs of this one request (allowed begin marks, for example).
    All requests of one engine step that name the same ``picker`` are sampled in one call; the hidden
    state is that of the last row of the ask.
    """

    picker: Picker
    rule: Sampling
    state: Any = None


@dataclass(frozen=True)
class Step:
    """Ask for rows to pass through the backbone.

    Attributes:
        rows: ``(n, D)`` embeddings.
        coordinates: ``(n, 3)`` absolute coordinates.
        look: ``full``: the n rows see each other both ways.
        sees: ``(n,)`` int: how many of the n rows each row sees, in place of ``look``; a prompt whose
            spans look in different ways passes in one ask.
        keep: ``False`` is a trial pass; its keys are dropped afterwards.
        pick: Sample from the last row.
        content: ``(n, 4)``: what the rows hold, where a later prompt may hold the same (``engine.opening``).
    """

    rows: Tensor
    coordinates: Tensor
    look: Look = "causal"
    keep: bool = True
    pick: Pick | None = None
    sees: Tensor | None = None
    content: np.ndarray | None = None


@dataclass(frozen=True)
class Drop:
    """Forget the last n rows of the run (rejected drafts)."""

    n: int


@dataclass(frozen=True)
class Fork:
    """Open a branch that steps together with its parent.

    Attributes:
        rows: ``(n, D)`` rows that only the branch has.
        coordinates: ``(n, 3)`` absolute coordinates of those rows.
        share: How many rows of the parent the branch sees; ``None``: everything so far. Guidance that
            drops the condition shares 0 rows, or the system prompt.
    """

    rows: Tensor
    coordinates: Tensor
    share: int | None = None


@dataclass(frozen=True)
class Join:
    """Close all branches of the request."""


Ask = Step | Drop | Fork | Join


@dataclass(frozen=True)
class Result:
    """The engine's answer to a ``Step`` (and, with ``picked`` empty, to ``Drop``, ``Fork``, ``Join``).

    Attributes:
        hidden: ``(G, n, D)``: the parent first, then its branches.
        latents: This request's own sample with the batch axis removed, or ``None`` without a pick.
        end: The head closed the span instead.
        logprob: Log-probability of the sample where the head defines one.
        extra: Further answers of the head, batch axis removed.
    """

    hidden: Tensor | None = None
    latents: Tensor | None = None
    end: bool = False
    logprob: float | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EmitContext:
    """What a head knows when it starts a span.

    Attributes:
        plan: Layout of the span; ``plan.rows`` is already lowered to the budget of the request.
        at: ``at(start, stop)`` gives absolute coordinates ``(stop - start, 3)`` of inner rows.
        begin: Absolute coordinate ``(1, 3)`` of the begin mark.
        rule: How to sample.
        push: Called with each ``(n, ...)`` block of latents as it is made; streams media.
        unconditional: Rows and coordinates of the prompt without its condition, for guidance; ``None``
            where the model was not trained for guidance.
        draw: The random generator of this request.
        extra: Collects further answers of the head by name, one ``(...)`` tensor per row.
    """

    plan: Plan
    at: Callable[[int, int], Tensor]
    begin: Tensor
    rule: Sampling
    push: Callable[[Tensor], None]
    draw: torch.Generator
    unconditional: tuple[Tensor, Tensor] | None = None
    extra: dict[str, list[Tensor]] = field(default_factory=dict)


Emission = Generator[Ask, Result, "Tensor"]
"""A head's ``emit``: asks, is answered, and returns the latents ``(n, ...)`` of the whole span."""
