"""Training: a step of ours against transformers, peft and padded batches, and what ``recompute`` costs and saves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from anyany.bench import learners, mixture, twins
from anyany.bench.learners import Learner
from anyany.bench.measure import Figure, quartiles, speedup
from anyany.bench.memory import program
from anyany.errors import AnyanyError

BATCH = 8
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
        rounds: How often a step of each is measured.
        lora: An adapter trains; otherwise all but the encoder.
        even: All conversations are of one length, so that no row is padded: what is left is no goal.

    Raises:
        AnyanyError: The two do not learn the same.
        MissingPackageError: transformers or peft is not installed.
    """
    name = f"train-{'lora' if lora else 'full'}-{size}{'-even' if even else ''}"
    ours, theirs = pair(size, lora=lora, even=even)
    for _ in range(2):  # the second loss tells whether the first step trained the same
        same(name, ours.step(), theirs.step())
    found = speedup(ours.step, theirs.step, rounds)
    rows = sum(document.rows for document in ours.batch)
    trains = f"LoRA of rank {learners.RANK}" if lora else "all weights"
    return Figure(
        id=name,
        what=f"steps of {BATCH} conversations with pictures, {rows:,} rows, {trains}, "
        f"AdamW, float32; fill of the padded batch {theirs.batch.fill:.2f}",
        quartiles=found,
        peer=f"{PEER}, peft" if lora else PEER,
        goal=None if even else GOAL,
    )


def pair(size: str, *, lora: bool, even: bool = False) -> tuple[Learner, Learner]:
    """Ours and the peer, with equal weights, the same conversations and equal adapters."""
    language = twins.llama(size)
    conversations = mixture.conversations(BATCH, even=even)
    with tempfile.TemporaryDirectory() as folder:
        twins.write(language, Path(folder))
        ours = learners.ours(Path(folder), conversations, lora=lora)
    theirs = learners.theirs(language, ours.model, conversations, lora=lora)
    if lora:
        learners.same_adapter(ours, theirs)
    return ours, theirs


def recompute(size: str, rounds: int) -> Figure:
    """What the blocks' second pass costs: time of a step without it over the time with it.

    Raises:
        AnyanyError: The two do not learn the same.
    """
    name = f"train-recompute-{size}"
    (plain, _), (again, _) = pair(size, lora=False), pair(size, lora=False)
    again.model.backbone.recompute = True  # type: ignore[union-attr]
    same(name, again.step(), plain.step())
    found = speedup(again.step, plain.step, rounds)
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
            same(name, float(small[1]), float(large[1]))
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


def same(name: str, ours: float, theirs: float) -> None:
    """Hold the losses of the same step to each other.

    Raises:
        AnyanyError: They differ.
    """
    if not (apart := abs(ours - theirs)) < TOLERANCE:
        raise AnyanyError(f"{name}: the losses are {apart:.2g} apart, so that speed and memory say nothing")
