"""Training: a step of ours against transformers, peft and padded batches, and what ``recompute`` costs and saves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from anyany.bench import learners, mixture, twins
from anyany.bench.learners import Learner
from anyany.bench.measure import Figure, quartiles, speedup
from anyany.bench.memory import program
from anyany.errors import AnyanyError

BATCH, BATCHES = 8, 3
FEW, WORDS = 4, 150_000
"""Conversations and vocabulary where memory is measured: logits of a padded batch alone are 1 GB there."""
TOLERANCE = 1e-4
GOAL, LEAST = 1.5, 1 / 0.7
"""Of speed, and of memory: at most 0.7 times that of the peer."""
PEER = "transformers, padded"


def against(size: str, rounds: int, *, lora: bool, even: bool = False) -> Figure:
    """Tokens a second of training, padding not counted, against the same steps of the peer.

    Args:
        size: A key of ``twins.SHAPES``.
        rounds: How often an epoch of each is measured.
        lora: An adapter trains; otherwise all but the encoder.
        even: All conversations are of one length, so that no row is padded: what is left is no goal.

    Raises:
        AnyanyError: The two do not learn the same.
        MissingPackageError: transformers or peft is not installed.
    """
    name = f"train-{'lora' if lora else 'full'}-{size}{'-even' if even else ''}"
    with pair(size, lora=lora, even=even) as (ours, theirs):
        for _ in range(2):  # of a new adapter, the first epoch alone trains what is not zero
            same(name, ours.epoch(), theirs.epoch())
        found = speedup(ours.epoch, theirs.epoch, rounds)
    rows = sum(document.rows for batch in ours.batches for document in batch)
    fill = rows / sum(batch.ids.numel() for batch in theirs.batches)
    trains = f"LoRA of rank {learners.RANK}" if lora else "all weights"
    return Figure(
        id=name,
        what=f"steps of {BATCH} conversations with pictures, {rows / BATCHES:.0f} rows in the mean, {trains} trains, "
        f"AdamW, float32; fill of the padded batches {fill:.2f}",
        quartiles=found,
        peer=f"{PEER}, peft" if lora else PEER,
        goal=None if even else GOAL,
    )


@contextmanager
def pair(size: str, *, lora: bool, even: bool = False) -> Iterator[tuple[Learner, Learner]]:
    """Ours and the peer, with equal weights, the same conversations and equal adapters."""
    language = twins.llama(size)
    conversations = mixture.conversations(BATCH * BATCHES, even=even)
    with tempfile.TemporaryDirectory() as folder:
        twins.write(language, Path(folder))
        ours = learners.ours(Path(folder), conversations, BATCH, lora=lora)
    theirs = learners.theirs(language, ours.model, conversations, BATCH, lora=lora)
    if lora:
        learners.same_adapter(ours, theirs)
    yield ours, theirs


def recompute(size: str, rounds: int) -> Figure:
    """What the blocks' second pass costs: time of a step without it over the time with it.

    Raises:
        AnyanyError: The two do not learn the same.
    """
    name = f"train-recompute-{size}"
    with pair(size, lora=False) as (plain, _), pair(size, lora=False) as (again, _):
        again.model.backbone.recompute = True  # type: ignore[union-attr]
        same(name, plain.epoch(), again.epoch())
        found = speedup(again.epoch, plain.epoch, rounds)
    return Figure(
        id=name,
        what=f"speed of steps of {BATCH} conversations with recompute, all weights train",
        quartiles=found,
        peer="without",
    )


def memory(trains: str, rounds: int) -> Figure:
    """Peak memory of steps of the peer over that of ours, with a vocabulary as large as that of large models.

    Args:
        trains: ``lora`` or ``full``.
        rounds: How often a process of each is measured.

    Raises:
        AnyanyError: The two do not learn the same, or the system does not tell how much memory a process has.
        MissingPackageError: transformers or peft is not installed.
    """
    return _memory(
        f"train-memory-{trains}", ("ours", "theirs"), trains, WORDS, rounds,
        peer=f"{PEER}, peft" if trains == "lora" else PEER, goal=LEAST,
    )  # fmt: skip


def recompute_memory(rounds: int) -> Figure:
    """Peak memory of steps without ``recompute`` over that with it.

    Raises:
        AnyanyError: The two do not learn the same, or the system does not tell how much memory a process has.
    """
    return _memory("train-recompute-memory", ("recompute", "ours"), "full", twins.VOCAB, rounds, peer="without")


def _memory(
    name: str, sides: tuple[str, str], trains: str, vocab: int, rounds: int, *, peer: str, goal: float | None = None
) -> Figure:
    """The peak of the second side over that of the first."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        twins.write(twins.llama("10m", vocab), Path(folder))
        for _ in range(rounds):
            small, large = (program("training_footprint", side, trains, folder, FEW).split() for side in sides)
            same(name, [float(small[1])], [float(large[1])])
            found.append((int(small[0]), int(large[0])))
    mine, theirs = (median(values) / 1e6 for values in zip(*found, strict=True))
    return Figure(
        id=name,
        what=f"peak of steps of {FEW} conversations, weights and optimiser included, imports not; {vocab:,} tokens, "
        f"{'LoRA' if trains == 'lora' else 'all weights'}: {mine:,.0f} MB against {theirs:,.0f}",
        quartiles=quartiles([large / small for small, large in found]),
        peer=peer,
        goal=goal,
    )


def same(name: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Hold the losses of the same steps to each other.

    Raises:
        AnyanyError: They differ.
    """
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    if not apart < TOLERANCE:
        raise AnyanyError(f"{name}: the losses are {apart:.2g} apart, so that speed and memory say nothing")
