"""Sampling of one step: one call per head, adapter and number of branches, whoever asked for it.

Shapes: B requests that share a call, G branches of a request (itself first), D model width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from anyany.backbone.lora import using
from anyany.engine.live import Live
from anyany.errors import LayoutError
from anyany.heads.steps import Pick, Picked


def sample(asking: Sequence[Live], hidden: Sequence[Tensor | Exception]) -> list[Any]:
    """What each request picks: fields of a ``Result``, if any, or an exception.

    Args:
        asking: Requests.
        hidden: ``(G, n, D)`` of each, or what it failed with.
    """
    answers: list[Any] = [{}] * len(asking)
    groups: dict[tuple[int, int, int], list[int]] = {}
    for index, request in enumerate(asking):
        states, pick = hidden[index], request.ask.pick  # type: ignore[union-attr]
        if isinstance(states, Tensor) and pick is not None:
            key = (id(pick.picker), id(request.adapter), len(states))
            groups.setdefault(key, []).append(index)
    for members in groups.values():
        last = torch.stack([hidden[i][:, -1] for i in members])  # type: ignore[index]  # (B, G, D)
        good = [True] * len(last) if finite(last) else [finite(row) for row in last]
        for index in (i for i, whole in zip(members, good, strict=True) if not whole):
            answers[index] = LayoutError("hidden state: expected finite numbers, got NaN or infinity")
        whole = [i for i, ok in zip(members, good, strict=True) if ok]
        picked = _sample([asking[i] for i in whole], last if all(good) else last[good])
        for index, answer in zip(whole, picked, strict=True):
            answers[index] = answer
    return answers


def _sample(requests: list[Live], last: Tensor) -> list[Any]:
    """One call of the head, and with the adapter, that B requests share, on ``(B, G, D)``; if it fails, each alone."""
    if not requests:
        return []
    picks: list[Pick] = [request.ask.pick for request in requests]  # type: ignore[union-attr,misc]
    draws = [request.draw for request in requests]
    before = [draw.get_state() for draw in draws]
    try:
        with using(requests[0].adapter):
            picked = picks[0].picker.pick(last, [p.rule for p in picks], draws, [p.state for p in picks])
        if not len(picked.latents) == len(picked.end) == len(requests):
            raise LayoutError(f"head: expected samples for {len(requests)} requests, got {len(picked.latents)}")
        return _apart(picked)
    except Exception as error:
        if len(requests) == 1:
            return [error]
    for draw, state in zip(draws, before, strict=True):
        draw.set_state(state)  # what the failed call drew does not count
    return [_sample([request], last[row : row + 1])[0] for row, request in enumerate(requests)]


def finite(x: Tensor) -> bool:
    """Whether all numbers are finite; a sum that is tells at a fifth of the cost."""
    return math.isfinite(x.sum().item()) or bool(x.isfinite().all())


def _apart(picked: Picked) -> list[dict[str, Any]]:
    """What a head sampled, request by request: fields of its ``Result``."""
    count = len(picked.latents)
    logprobs = [None] * count if picked.logprob is None else picked.logprob.tolist()
    each = zip(picked.latents.unbind(), picked.end.tolist(), logprobs, strict=True)
    return [
        {"latents": z, "end": end, "logprob": p, "extra": {name: v[row] for name, v in picked.extra.items()}}
        for row, (z, end, p) in enumerate(each)
    ]
