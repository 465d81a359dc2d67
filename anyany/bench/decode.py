"""Decoding: one reply against transformers' ``generate``, and eight at once against one by one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from anyany.bench.measure import Figure, quartiles, rounds_of, speedup
from anyany.bench.twins import Twins, prompt, twins, words
from anyany.errors import AnyanyError

PROMPT, NEW, BATCH = 64, 128, 8


def alone(size: str, rounds: int) -> Figure:
    """Greedy, batch 1; both must make the same tokens.

    Raises:
        AnyanyError: They do not.
    """
    pair = twins(size)
    ours, theirs = replies(pair, NEW)
    if (mine := ours()) != (made := theirs()):
        raise AnyanyError(f"decode-{size}: the tokens differ, so that speed says nothing: {mine!r} against {made!r}")
    return Figure(
        id=f"decode-{size}",
        what=f"greedy reply of {NEW} tokens to {PROMPT}, {pair.parameters / 1e6:.1f} M parameters, float32, batch 1",
        quartiles=speedup(ours, theirs, rounds),
        peer="transformers generate",
        goal=1.5,
    )


def replies(pair: Twins, new: int) -> tuple[Callable[[], str], Callable[[], str]]:
    """Two calls that answer the same prompt with ``new`` tokens: ours and theirs."""
    ids = prompt(PROMPT)
    text, batch = words(ids), ids[None]
    mask = torch.ones_like(batch)

    def ours() -> str:
        return pair.ours.generate(text, max_new_tokens=new, do_sample=False).text

    def theirs() -> str:
        made = pair.theirs.generate(
            batch, attention_mask=mask, max_new_tokens=new, do_sample=False, use_cache=True,
            eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        return words(made[0, PROMPT:])

    return ours, theirs


def together(size: str, rounds: int) -> Figure:
    """Eight prompts at once against the same eight one by one, both ours.

    Raises:
        AnyanyError: The replies differ.
    """
    model = twins(size).ours
    prompts = [words(prompt(PROMPT, seed)) for seed in range(BATCH)]
    options = {"max_new_tokens": NEW, "do_sample": False}

    def batched() -> list[str]:
        return [reply.text for reply in model.generate_batch(prompts, **options)]

    def one_by_one() -> list[str]:
        return [model.generate(text, **options).text for text in prompts]

    if batched() != one_by_one():
        raise AnyanyError(f"batch{BATCH}-{size}: a request must not depend on its neighbours, but the replies differ")
    return Figure(
        id=f"batch{BATCH}-{size}",
        what=f"{BATCH} greedy replies of {NEW} tokens to {PROMPT}, all at once",
        quartiles=speedup(batched, one_by_one, rounds),
        peer="one by one",
        goal=3.0,
    )


def bandwidth(size: str, rounds: int) -> Figure:
    """Share of the measured read bandwidth that decoding reaches: weights are read once per token."""
    from anyany.bench.machine import read

    pair = twins(size)
    calls = (replies(pair, NEW)[0], replies(pair, 1)[0])
    gigabytes, data = read()
    times = rounds_of((*calls, data), rounds)
    rates = [pair.read() / 1e9 * (NEW - 1) / (long - short) for long, short, _ in times]
    return Figure(
        id=f"bandwidth-{size}",
        what=f"bytes of weights that decoding reads per second, {pair.read() / 1e6:.0f} MB per token",
        quartiles=quartiles([rate / (gigabytes / spent) for rate, (*_, spent) in zip(rates, times, strict=True)]),
        peer="read bandwidth of the machine",
        goal=0.5,
    )
