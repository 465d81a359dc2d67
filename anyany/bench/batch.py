"""Mixed requests at once, against the padded ``generate`` of transformers on the same weights.

transformers knows positions by row alone, so both count them so. Rows of media are made by the same components for
both: for transformers all in one call, before its clock matters.

Shapes: B requests, L rows of the longest, D model width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyany.bench import tiny
from anyany.bench.measure import Figure, speedup
from anyany.engine import Engine, TextDelta, make_options
from anyany.errors import AnyanyError
from anyany.model import Model, assembly
from anyany.model.running import Request
from anyany.parts.messages import as_messages
from anyany.sequence import PositionScheme

REQUESTS, NEW = 32, 48
MOST = 4.4
"""Logarithm of the most phrases in a prompt: 80 of them, some 400 rows. Lengths are even on a logarithmic scale."""
WORDS = ("what is this", "say it in words", "three plus four", "which digit is it", "name what you see", "and then")


def mixed(rounds: int) -> Figure:
    """32 greedy replies of as many tokens to words and media of all kinds, of mixed lengths.

    Raises:
        AnyanyError: They do not make the same tokens.
    """
    model, theirs = tiny.pair()
    prompts = _prompts(model)
    plain, model.backbone.scheme = model.backbone.scheme, PositionScheme("index")
    try:

        def ours() -> list[str]:
            return _packed(model, prompts)

        def padded() -> list[str]:
            return _padded(model, theirs, prompts)

        pairs = zip(ours(), padded(), strict=True)
        differ = [(index, one, other) for index, (one, other) in enumerate(pairs) if one != other]
        if differ:
            raise AnyanyError(f"batch: {len(differ)} replies differ, so that speed says nothing: {differ[0]}")
        found = speedup(ours, padded, rounds)
    finally:
        model.backbone.scheme = plain
    return Figure(
        id="batch",
        what=f"tokens a second, {REQUESTS} requests of words and media, {NEW} tokens each, mini, float32",
        quartiles=found,
        peer="transformers generate, padded",
        goal=3.0,
    )


def _prompts(model: Model) -> list[list[Any]]:
    """Half of them words alone, the others with up to two media of any kind; many are short, a few are long."""
    draw, out = np.random.default_rng(0), []
    encoders = [encoder for _, encoder, _ in model.planner.encoders.values()]
    for index in range(REQUESTS):
        prompt: list[Any] = [" ".join(draw.choice(WORDS, size=int(np.exp(draw.uniform(0, MOST)))))]
        for _ in range(int(draw.integers(0, 3)) if index % 2 else 0):
            prompt.insert(int(draw.integers(0, len(prompt) + 1)), encoders[draw.integers(len(encoders))].example(index))
        out.append(prompt)
    return out


@torch.inference_mode()
def _packed(model: Model, prompts: list[list[Any]]) -> list[str]:
    """Replies of the engine, all in step, until each has ``NEW`` tokens."""
    engine, host = Engine(model.backbone), model.host()
    given = {"allow": ["text"], "max_parts": 1, "max_new_tokens": NEW + 1, "temperature": 0.0}
    requests = [Request(engine, host, prompt, make_options(model.emits, {}, 0, given)) for prompt in prompts]
    for _ in range(NEW):
        engine.step()
    replies = ["".join(e.text for e in request.events if isinstance(e, TextDelta)) for request in requests]
    engine.close()
    return replies


@torch.inference_mode()
def _padded(model: Model, theirs: Any, prompts: list[list[Any]]) -> list[str]:
    """Replies of ``generate``, prompts with their ends in line."""
    documents = [model.planner.plan(as_messages(prompt), reply=True) for prompt in prompts]
    rows = assembly.embed(model, assembly.placed(documents)).rows.split([document.rows for document in documents])
    longest = max(map(len, rows))
    embedded = torch.stack([_left(own, longest) for own in rows])  # (B, L, D)
    mask = torch.stack([_left(torch.ones(len(own), 1), longest)[:, 0] for own in rows]).long()  # (B, L)
    made = theirs.generate(
        inputs_embeds=embedded, attention_mask=mask, max_new_tokens=NEW, do_sample=False, eos_token_id=None,
        pad_token_id=0,
    )  # fmt: skip
    return [model.tokenizer.backend.decode(ids) for ids in made.tolist()]


def _left(rows: Tensor, longest: int) -> Tensor:
    """Zeros before the rows."""
    return torch.cat([rows.new_zeros(longest - len(rows), rows.shape[1]), rows])
