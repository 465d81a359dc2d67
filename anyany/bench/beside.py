"""A long prompt that arrives while another request is in the middle of its reply."""

from __future__ import annotations

import time
from functools import cache

import torch

from anyany.bench.measure import Figure, quartiles
from anyany.bench.twins import prompt, twins, words
from anyany.engine import Engine, make_options
from anyany.engine.engine import PIECE
from anyany.errors import AnyanyError
from anyany.model.running import Request

LONG, SIZE = 4096, "10m"


def stall(rounds: int) -> Figure:
    """The longest time between two tokens of the request that talks: the prompt in pieces, against whole."""
    return Figure(
        id="stall-10m",
        what=f"longest wait for a token while a prompt of {LONG:,} rows is read, in pieces of {PIECE}, 10 M parameters",
        quartiles=quartiles([whole[0] / pieces[0] for pieces, whole in _rounds(rounds)]),
        peer="the prompt in one pass",
    )


def first(rounds: int) -> Figure:
    """What that costs the one who asks: time to the first token of the long prompt."""
    return Figure(
        id="stall-first-10m",
        what=f"time to the first token of a prompt of {LONG:,} rows that is read in pieces of {PIECE} beside a reply",
        quartiles=quartiles([whole[1] / pieces[1] for pieces, whole in _rounds(rounds)]),
        peer="the prompt in one pass",
    )


@cache
def _rounds(rounds: int) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Longest wait and time to the first token, in pieces and whole, round by round.

    Raises:
        AnyanyError: The long prompt is answered differently.
    """
    answers = {size: _admit(size)[2] for size in (PIECE, LONG)}
    if len(set(answers.values())) > 1:
        raise AnyanyError(f"stall: the answers differ, so that speed says nothing: {answers}")
    return [(_admit(PIECE)[:2], _admit(LONG)[:2]) for _ in range(rounds)]


def _admit(piece: int) -> tuple[float, float, str]:
    """Longest and total seconds of the steps in which the prompt is read, and what is answered."""
    model = twins(SIZE).ours
    engine, host = Engine(model.backbone, rows=2 * LONG, piece=piece), model.host()

    def ask(ids: torch.Tensor, new: int) -> Request:
        options = make_options(model.emits, {}, 0, {"max_new_tokens": new, "do_sample": False})
        return Request(engine, host, words(ids), options)

    ask(prompt(64), 1000)
    for _ in range(8):
        engine.step()
    reads, waits = ask(prompt(LONG - 8, 1), 4), []
    while not reads.live.begun:
        started = time.perf_counter()
        engine.step()
        waits.append(time.perf_counter() - started)
    while not reads.live.done:
        engine.step()
    engine.close()
    return max(waits), sum(waits), reads.reply().text
