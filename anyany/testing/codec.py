"""What a codec keeps: latents in the form that it states, plans that hold, and media from any latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anyany.parts import Media
from anyany.plugin.components import Plan
from anyany.plugin.specs import Codes, EncoderSpec
from anyany.testing.compare import same, same_media
from anyany.testing.kit import demand, hold, listed
from anyany.testing.preparing import check_coordinates
from anyany.testing.subject import Subject


def _decodes(subject: Subject) -> bool:
    return subject.decodes


def any_latents(codec: Any, rows: int, seed: int = 0) -> Tensor:
    """Latents of so many rows as a head that has learned nothing might make them."""
    draw = torch.Generator().manual_seed(seed)
    if isinstance(codec.latents, Codes):
        return torch.randint(0, codec.latents.vocab, (rows, codec.latents.books), generator=draw)
    return torch.randn(rows, codec.latents.dim, generator=draw)


def decode(codec: Any, latents: Tensor, like: Media | None = None) -> Media:
    """Media of latents, as the engine asks for them."""
    with torch.inference_mode():
        media: Media = codec.decode(latents, like)
    return media


@demand(_decodes)
def latents_are_those_of_the_spec(subject: Subject) -> None:
    """The codec speaks the latents that its spec states: the head is built from one, and shown by the other."""
    stated, built = subject.spec.latents, subject.build().latents  # type: ignore[union-attr]
    hold(built == stated, f"{stated}", f"{built}", "state in the spec what the default configuration builds")


@demand(_decodes)
def latents_have_their_form(subject: Subject) -> None:
    """``encode`` gives ``(rows, books)`` int64 for codes, ``(rows, dim)`` floats for vectors."""
    codec = subject.build()
    made = subject.run(codec, subject.batch(codec))
    codes = isinstance(codec.latents, Codes)
    width = codec.latents.books if codes else codec.latents.dim
    hold(made.dim() == 2 and made.shape[1] == width, f"latents (rows, {width})", tuple(made.shape), "mend encode()")
    right = made.dtype == torch.int64 if codes else made.is_floating_point()
    hold(right, "int64 codes" if codes else "floating vectors", made.dtype, "mend encode()")


@demand(lambda subject: subject.speaks_codes)
def codes_lie_below_the_vocabulary(subject: Subject) -> None:
    """All codes are from 0 to ``vocab - 1``: the head has a logit for these and no others."""
    codec = subject.build()
    made = subject.run(codec, subject.batch(codec))
    low, high, most = int(made.min()), int(made.max()), codec.latents.vocab - 1
    hold(low >= 0 and high <= most, f"codes from 0 to {most}", f"{low} to {high}", "mend encode(), or latents")


@demand(_decodes)
def plans_are_valid(subject: Subject) -> None:
    """``plan`` gives rows above zero and coordinates for all of them, with and without an earlier part."""
    codec = subject.build()
    for like in (None, *subject.media(codec)):
        plan = codec.plan(like)
        hold(isinstance(plan, Plan), "a Plan", type(plan).__name__, "return anyany.plugin.Plan(...)")
        hold(
            isinstance(plan.rows, int) and plan.rows > 0,
            "a whole number of rows above zero",
            repr(plan.rows),
            "mend plan()",
        )
        if plan.coordinates is not None:
            check_coordinates(plan.coordinates.values, plan.coordinates.unit, plan.rows)


@demand(_decodes)
def fixed_plans_hold(subject: Subject) -> None:
    """Where a plan is ``fixed``, prepared media have exactly its rows: no end is learned or sampled."""
    codec = subject.build()
    for media in subject.media(codec):
        plan, rows = codec.plan(), codec.prepare(media).rows
        hold(not plan.fixed or rows == plan.rows, f"{plan.rows} rows, as planned", rows, "plan with fixed=False")


@demand(_decodes)
def plans_lie_where_media_lie(subject: Subject) -> None:
    """A part has the same coordinates when it is learned from as when it is generated."""
    codec = subject.build()
    like = codec.example(1)
    planned, prepared = codec.plan(like).coordinates, codec.prepare(codec.example(0), like).coordinates
    advice = "make both from one function"
    hold((planned is None) == (prepared is None), "coordinates in both or none", "coordinates in one", advice)
    if planned is None or prepared is None:
        return
    hold(planned.unit == prepared.unit, f"the unit {prepared.unit!r} of prepare()", repr(planned.unit), advice)
    both = min(len(planned.values), len(prepared.values))
    wanted = torch.from_numpy(prepared.values[:both])
    same(torch.from_numpy(planned.values[:both]), wanted, "coordinates of plan() as of prepare()", advice, 1e-6)


@demand(_decodes)
def decodes_to_its_modality(subject: Subject) -> None:
    """Its own latents come back as media of its modality."""
    codec = subject.build()
    for media in subject.media(codec):
        made = decode(codec, subject.run(codec, [codec.prepare(media)]))
        right = isinstance(made, Media) and made.modality == subject.spec.modality
        hold(right, f"media of {subject.spec.modality!r}", type(made).__name__, "mend decode()")


@demand(_decodes)
def any_row_count_decodes(subject: Subject) -> None:
    """Any latents of 1 to ``plan().rows`` rows give valid media: a budget may close a span at any row."""
    codec = subject.build()
    for like in (None, codec.example(1)):
        most = codec.plan(like).rows
        for rows in sorted({1, 2, 3, most // 2, most - 1, most} & set(range(1, most + 1))):
            made = decode(codec, any_latents(codec, rows), like)
            right = isinstance(made, Media) and made.modality == subject.spec.modality
            hold(right, f"media from {rows} rows", type(made).__name__, "fill up, or cut to what is whole")


@demand(_decodes)
def what_it_makes_can_be_read(subject: Subject) -> None:
    """Media that it makes go in again: through itself, and through the encoders of its plugin."""
    codec = subject.build()
    made = decode(codec, any_latents(codec, codec.plan().rows))
    hold(codec.prepare(made).rows > 0, "rows", "none", "make media that prepare() takes")
    for spec in subject.record.specs:
        if isinstance(spec, EncoderSpec) and spec.modality == subject.spec.modality:
            encoder = Subject(spec=spec, plugins=subject.plugins).build()
            hold(encoder.prepare(made).rows > 0, f"rows of {spec.id}", "none", "make media that encoders take")


@demand(lambda subject: subject.decodes and subject.spec.can.deterministic)
def decode_is_repeatable(subject: Subject) -> None:
    """``deterministic``: the same latents give the same media, and draw from no generator."""
    codec = subject.build()
    latents = any_latents(codec, codec.plan().rows)
    before = torch.get_rng_state()
    one, other = decode(codec, latents), decode(codec, latents)
    same_media(other, one, "the same media again", "start from zeros, or from a seed of its own")
    hold(
        torch.equal(before, torch.get_rng_state()),
        "no draw from torch's generator",
        "a draw",
        "make a generator of its own",
    )


@demand(_decodes)
def decode_leaves_like_alone(subject: Subject) -> None:
    """The earlier part that it follows stays as it is, and so do the latents."""
    codec = subject.build()
    like, latents = codec.example(1), any_latents(codec, codec.plan().rows)
    key, copy = like.key(), latents.clone()
    decode(codec, latents, like)
    hold(like.key() == key, "the earlier part as it was", "another", "copy before you write")
    same(latents, copy, "the latents as they were", "copy before you write", 0.0)


@demand(_decodes)
def loss_terms_are_finite_scalars(subject: Subject) -> None:
    """``loss`` gives named scalars: recipes weigh them by name."""
    codec = subject.build().train()
    terms = codec.loss(subject.batch(codec))
    hold(
        bool(terms) and all(isinstance(name, str) for name in terms),
        "named terms",
        repr(terms)[:80],
        "return {'name': term}",
    )
    wrong = [name for name, term in terms.items() if term.dim() or not term.isfinite()]
    hold(
        not wrong,
        "finite scalars",
        f"others in {listed(wrong)}",
        "take the mean over the batch; look at what is missing",
    )


@demand(lambda subject: subject.decodes and subject.spec.can.quantiles)
def quantiles_are_taken(subject: Subject) -> None:
    """``quantiles``: ``decode`` takes what the regression head predicted beside the latents."""
    codec = subject.build()
    latents = any_latents(codec, codec.plan().rows)
    spread = torch.linspace(-1, 1, len(codec.latents.quantiles))
    with torch.inference_mode():
        plain, made = codec.decode(latents), codec.decode(latents, quantiles=latents[..., None] + spread)
    hold(type(made) is type(plain), type(plain).__name__, type(made).__name__, "take quantiles (rows, dim, levels)")
    hold(
        made.key() != plain.key(),
        "media that carry the quantiles",
        "the same as without",
        "use them, or promise nothing",
    )
