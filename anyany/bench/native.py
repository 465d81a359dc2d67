"""Decoding where weights are read from memory: bfloat16 against transformers, and smaller weights against bfloat16.

Rates are those of the tokens behind the first: the time of a long reply less that of one token.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch

from anyany.bench.decode import PROMPT, replies
from anyany.bench.machine import read
from anyany.bench.measure import Figure, quartiles, rounds_of
from anyany.bench.twins import Twins, prompt, twins, words
from anyany.errors import AnyanyError
from anyany.model import Model
from anyany.native import Form, library
from anyany.native.choice import VARIABLE

SIZE, NEW = "240m", 33
TOLERANCE = 1e-2


def against(rounds: int, *, native: bool) -> Figure:
    """C1: tokens a second against ``generate``, with the library or without.

    Raises:
        AnyanyError: The logits are too far from those of the same weights in float32.
    """
    pair = twins(SIZE, torch.bfloat16)
    (ours, theirs), (ours_short, theirs_short) = replies(pair, NEW), replies(pair, 1)
    with _library(native):
        _gate(pair)
        times = rounds_of((ours, ours_short, theirs, theirs_short), rounds)
    ratios = [(slow - first) / (fast - start) for fast, start, slow, first in times]
    return Figure(
        id="C1" if native else "C1-pytorch",
        what=f"tokens a second, {pair.parameters / 1e6:.0f} M parameters, bfloat16, batch 1, "
        + ("native library" if native else "without the native library"),
        quartiles=quartiles(ratios),
        peer="transformers generate",
        goal=2.4 if native else 1.5,
    )


def bandwidth(rounds: int) -> Figure:
    """C3: bytes of weights and cache per second over the read bandwidth of the same round."""
    pair = twins(SIZE, torch.bfloat16)
    gigabytes, data = read()
    times = rounds_of((replies(pair, NEW)[0], replies(pair, 1)[0], data), rounds)
    mixer = pair.ours.backbone.blocks[0].mixer
    row = 2 * 2 * len(pair.ours.backbone.blocks) * mixer.kv_heads * mixer.head_dim  # bytes of keys and values
    read_per_token = (pair.read() + row * (PROMPT + NEW / 2)) / 1e9
    rates = [read_per_token * (NEW - 1) / (long - short) for long, short, _ in times]
    return Figure(
        id="C3",
        what=f"bytes that decoding reads per second, {read_per_token * 1e3:.0f} MB per token, bfloat16",
        quartiles=quartiles([rate / (gigabytes / spent) for rate, (*_, spent) in zip(rates, times, strict=True)]),
        peer="read bandwidth of the machine",
        goal=0.8,
    )


def smaller(form: Form, goal: float, rounds: int) -> Figure:
    """C4: tokens a second with small integers against the same model in bfloat16."""
    model, shrunk = twins(SIZE, torch.bfloat16).ours, _shrunk(form)
    calls = [_reply(each, new) for each in (shrunk, model) for new in (NEW, 1)]
    times = rounds_of(calls, rounds)
    return Figure(
        id=f"C4-{form}",
        what=f"tokens a second with weights in {form}, batch 1",
        quartiles=quartiles([(slow - first) / (fast - start) for fast, start, slow, first in times]),
        peer="bfloat16",
        goal=goal,
    )


@cache
def _shrunk(form: Form) -> Model:
    """A copy of the model that reads small integers."""
    model = copy.deepcopy(twins(SIZE, torch.bfloat16).ours)
    model.backbone.weights = model.text.weights = form
    return model


def _reply(model: Model, new: int) -> Callable[[], str]:
    text = words(prompt(PROMPT))
    return lambda: model.generate(text, max_new_tokens=new, do_sample=False).text


@torch.inference_mode()
def _gate(pair: Twins) -> None:
    """Logits of ten rows over the cache, as decoding makes them, against those of the same weights in float32.

    Against transformers in bfloat16 the difference would be that of transformers, which rounds after each operator. So
    do our blocks without the library: they may be as far off as it is, and a fifth more.
    """
    ids = prompt(10)
    model, at = pair.ours, torch.arange(len(ids))
    intervals = torch.zeros(len(ids), 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = at + 1
    pool = model.backbone.new_pool(len(ids), dtype=torch.bfloat16)
    slots = slice(*pool.append(pool.reserve(len(ids)), len(ids)))
    coordinates = at.float()[:, None].expand(-1, 3).contiguous()
    hidden = model.backbone(model.text.embed(ids), coordinates, intervals, cache=pool, slots=slots)
    exact = copy.deepcopy(pair.theirs).float()(ids[None]).logits[0]
    ours, theirs = model.text.logits(hidden), pair.theirs(ids[None]).logits[0]
    apart, known = (float((logits.float() - exact).norm() / exact.norm()) for logits in (ours, theirs))
    if not apart < max(TOLERANCE, 0.0 if library() else 1.2 * known):
        raise AnyanyError(f"C1: the logits are {apart:.2g} of their size apart, so that speed says nothing")


@contextmanager
def _library(on: bool) -> Iterator[None]:
    """The library must be there, or must not be used."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1" if on else "0"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before
