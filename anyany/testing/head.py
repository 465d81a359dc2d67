"""The head that the latents of a codec call for: does it learn from them, and can they be fed back in?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anyany.heads import build
from anyany.heads.base import Head, HeadLoss
from anyany.testing.kit import demand, hold, listed
from anyany.testing.subject import Subject

WIDTH = 32
ADVICE = "look at the latents: numbers that are there, and are not always the same"


def _decodes(subject: Subject) -> bool:
    return subject.decodes


def _row_by_row(subject: Subject) -> bool:
    """Heads that denoise learn from noised copies in a document; the tier of training looks at them."""
    return subject.decodes and getattr(subject.spec.latents, "objective", "") != "flow-span"  # type: ignore[union-attr]


def _head(subject: Subject) -> tuple[Any, Head, Tensor, list[int]]:
    """Codec, its head, the latents of its examples and their lengths."""
    codec = subject.build()
    batch = subject.batch(codec)
    latents = subject.run(codec, batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = build(codec.latents, WIDTH)
    head.fit(latents)
    return codec, head, latents, [item.rows for item in batch]


def _loss(codec: Any, head: Head, latents: Tensor, lengths: list[int]) -> HeadLoss:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        hidden = torch.randn(sum(lengths) + len(lengths), WIDTH)
        return head.loss(hidden, latents, lengths, codec.plan().fixed)


@demand(_decodes)
def latents_can_be_fed_back(subject: Subject) -> None:
    """The head turns its latents into finite rows of the model's width."""
    _, head, latents, _ = _head(subject)
    rows = head.embed(latents)
    right = rows.shape == (len(latents), WIDTH) and bool(rows.isfinite().all())
    hold(
        right,
        f"finite rows ({len(latents)}, {WIDTH})",
        tuple(rows.shape),
        "latents of the form that codec.latents states",
    )


@demand(_row_by_row)
def head_loss_is_finite(subject: Subject) -> None:
    """The loss of the head over its latents is a finite number."""
    loss = _loss(*_head(subject)).total
    hold(
        loss.dim() == 0 and bool(loss.isfinite()),
        "a finite scalar",
        loss,
        "let NaN stand for numbers that are not there alone",
    )


@demand(_row_by_row)
def head_learns_from_its_latents(subject: Subject) -> None:
    """The loss reaches every weight of the head but those of marks and of what is fed back."""
    codec, head, latents, lengths = _head(subject)
    _loss(codec, head, latents, lengths).total.backward()
    beside = ("begin", "end", "call", "embedding.", "codes.", *(["stop"] if codec.plan().fixed else []))
    gradients = {name: weight.grad for name, weight in head.named_parameters() if not name.startswith(beside)}
    without = [name for name, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()]
    hold(not without, "a finite gradient for each weight of the head", f"none for {listed(without)}", ADVICE)
    said = [g for name, g in gradients.items() if not name.startswith("stop")]  # the end is learned from any latents
    hold(any(bool(g.any()) for g in said if g is not None), "gradients that are not zero", "zeros alone", ADVICE)


@demand(_decodes)
def scale_can_be_learned(subject: Subject) -> None:
    """Latents are fit for a scale: no dimension is infinite, and vectors have a number in each dimension somewhere."""
    codec, _, latents, _ = _head(subject)
    if not latents.is_floating_point():
        return
    empty = [str(i) for i, column in enumerate(latents.T) if column.isnan().all()]
    hold(
        not empty,
        "a number in each dimension of some row",
        f"none in {listed(empty)}",
        f"make dim smaller than {codec.latents.dim}",
    )
