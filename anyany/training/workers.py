"""Processes that read and prepare samples. The order, and every bit, is that of a run without them.

Each ticket goes to the next worker in turn, and its result is waited for in turn. A worker builds the sources from
the recipe, and gets the planner without the weights; it holds no state, so that it can be ended at any moment.
"""

from __future__ import annotations

import atexit
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch

from anyany import errors
from anyany.errors import AnyanyError, DataError, RecipeError
from anyany.model.document import Planner
from anyany.model.handing import ByValue, without_weights
from anyany.training.data import Make, Ticket, build_sources, made

WAITING = 32
"""Tickets that wait in each worker: enough to even out samples of unlike cost."""


class Workers:
    """``count`` processes, begun when the first ticket comes.

    Args:
        sources: Of the recipe; each worker builds its own.
        seed: Of every sample.
        make: What is made of a sample; a dataclass with the ``planner`` it uses.
        count: How many processes.
    """

    def __init__(self, sources: Mapping[str, Mapping[str, Any]], seed: int, make: Make, count: int) -> None:
        self.sources, self.seed, self.make, self.count = sources, seed, make, count
        self.pending: deque[tuple[int, Ticket]] = deque()
        self.turn = 0
        self.processes: list[Any] = []
        self.connections: list[Connection] = []

    def results(self, tickets: Iterator[Ticket]) -> Iterator[tuple[Ticket, Any]]:
        """Each ticket with what it stands for, or its ``AnyanyError``, in order.

        Raises:
            DataError: A worker died, or a sample raised something else; it names the sample.
            RecipeError: The work cannot be handed to another process.
        """
        if not self.processes:
            self._begin()
        while self.pending:  # of an order that has been given up
            self._receive()
        for ticket in tickets:
            self._send(ticket)
            if len(self.pending) == WAITING * self.count:
                yield self._receive()

    def close(self) -> None:
        """End all processes at once."""
        atexit.unregister(self.close)
        for process in self.processes:
            process.kill()
        for process, connection in zip(self.processes, self.connections, strict=True):
            process.join()
            connection.close()

    def _begin(self) -> None:
        job = _packed((dict(self.sources), self.seed, _light(self.make), torch.get_num_threads()))
        context = get_context("spawn")  # a fork of a process with threads can hang
        atexit.register(self.close)
        for number in range(self.count):
            mine, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), name=f"worker-{number}", daemon=True)
            process.start()
            theirs.close()  # so that the pipe ends when the worker does
            self.processes.append(process)
            self.connections.append(mine)
        for connection in self.connections:
            with suppress(OSError):
                connection.send_bytes(job)

    def _send(self, ticket: Ticket) -> None:
        self.pending.append((self.turn, ticket))
        with suppress(OSError):  # of one that died: what it has made is still there, and tells where it stopped
            self.connections[self.turn].send_bytes(_packed(ticket))
        self.turn = (self.turn + 1) % self.count

    def _receive(self) -> tuple[Ticket, Any]:
        worker, ticket = self.pending.popleft()
        try:
            kind, value = ForkingPickler.loads(self.connections[worker].recv_bytes())
        except (EOFError, OSError):
            raise self._died(worker, _place(ticket)) from None
        if kind == "made":
            return ticket, value
        if kind == "broken":
            name, message, code = value
            return ticket, getattr(errors, name)(message, code=code)
        error = DataError(f"worker {worker}, {_place(ticket)}: {value[0]}; with workers = 0 it ends in the run itself")
        error.add_note(value[1])
        raise error

    def _died(self, worker: int, where: str) -> DataError:
        self.processes[worker].join(10)
        code = self.processes[worker].exitcode
        return DataError(
            f"worker {worker} died with exit code {code} at {where}; -9 is often a want of memory: take fewer workers"
        )


def _place(ticket: Ticket) -> str:
    return f"source {ticket.source!r}, sample {ticket.index}"


def _packed(value: Any) -> Any:
    try:
        return ByValue.dumps(value)
    except Exception as error:
        raise RecipeError(
            f"workers: cannot hand {type(value).__name__} to another process: {error}; set workers = 0"
        ) from error


def _light(make: Make) -> Make:
    """The same, with components that have no weights."""
    planner: Planner = make.planner  # type: ignore[attr-defined]
    parts = (*planner.encoders.values(), *planner.codecs.values())
    components = [component for _, *held in parts for component in held]
    return replace(make, planner=without_weights(planner, components))  # type: ignore[type-var]


def _work(connection: Connection) -> None:
    """A worker: a job, then a result for each ticket, until the pipe ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a stop is for the run, which ends its workers when it is done
        signal.signal(number, signal.SIG_IGN)
    try:
        job: Any = None
        failed: tuple[str, str] | None = None
        data = connection.recv_bytes()
        try:
            sources, seed, make, threads = ForkingPickler.loads(data)
            torch.set_num_threads(threads)  # sums of another number of threads are others in the last bit
            job = build_sources(sources), seed, make
        except Exception as error:
            failed = _failure(error)
        while True:
            ticket = ForkingPickler.loads(connection.recv_bytes())
            connection.send_bytes(_packed(("failed", failed)) if failed is not None else _result(*job, ticket))
    except (EOFError, OSError):
        return


def _result(sources: Any, seed: int, make: Make, ticket: Ticket) -> Any:
    try:
        value = made(sources, seed, make, ticket)
        if not isinstance(value, AnyanyError):
            return _packed(("made", value))
        known = next(t for t in type(value).__mro__ if t.__module__ == errors.__name__)
        return _packed(("broken", (known.__name__, str(value), value.code)))
    except Exception as error:
        return _packed(("failed", _failure(error)))


def _failure(error: Exception) -> tuple[str, str]:
    return f"{type(error).__name__}: {error}", traceback.format_exc()
