"""A component among text and other parts, in a tiny model with random weights."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch import Tensor

from anyany.errors import AnyanyError
from anyany.model import Model, load
from anyany.model.assembly import embed, placed
from anyany.parts import Media
from anyany.parts.messages import Message
from anyany.sequence import Layout
from anyany.testing.compare import same, same_media
from anyany.testing.kit import demand, fail, hold
from anyany.testing.preparing import stranger
from anyany.testing.subject import Subject

BUDGET = 5


def _decodes(subject: Subject) -> bool:
    return subject.decodes


def example(model: Model, seed: int = 0) -> Media:
    """An example of the only component of a model."""
    component: Any = next(iter({**model.encoders, **model.codecs}.values()))
    media: Media = component.example(seed)
    return media


def hidden(model: Model, *prompts: list[str | Media]) -> list[Tensor]:
    """Hidden states ``(rows, D)`` of each prompt; all are packed into one pass."""
    documents = [model.planner.plan([Message("user", tuple(parts))]) for parts in prompts]
    with torch.no_grad():
        rows = embed(model, placed(documents)).rows
        layout = Layout.pack([document.spans for document in documents], model.backbone.scheme)
        states: Tensor = model.backbone(rows, layout.coordinates, layout.intervals)
    return list(states.split([document.rows for document in documents]))


def want(subject: Subject) -> dict[str, Any]:
    """Options of a reply in which the component takes part: an encoder's is text, a codec's has its modality first."""
    if subject.encodes:
        return {"want": ["text"], "max_new_tokens": BUDGET}
    return {
        "want": [subject.spec.modality, "text"],
        "max_new_tokens": BUDGET,
        "budgets": {subject.spec.modality: BUDGET},
    }


def same_reply(came: Any, wanted: Any, expected: str, advice: str) -> None:
    """Hold a reply to another one, part by part."""
    hold(came.modalities == wanted.modalities, expected, came.modalities, advice)
    for a, b in zip(came.parts, wanted.parts, strict=True):
        if isinstance(b, str):
            hold(a == b, f"{expected}: {b!r}", repr(a), advice)
        else:
            same_media(a, b, expected, advice)


@demand()
def interleaves_with_text(subject: Subject) -> None:
    """It stands between texts of a prompt, twice, and the reply has the parts that were wanted."""
    model = subject.model()
    reply = model.generate(["one", example(model), "two", example(model, 1)], **want(subject))
    hold(
        list(reply.modalities) == want(subject)["want"],
        f"{want(subject)['want']}",
        list(reply.modalities),
        "look at decode()",
    )


@demand(lambda subject: subject.encodes)
def order_of_media_is_kept(subject: Subject) -> None:
    """Two parts in another order are another prompt. Of encoders, because fresh codecs may give one code for all."""
    model = subject.model()
    one, other = example(model, 0), example(model, 1)
    forth, back = (h[-1] for h in hidden(model, [one, "and", other], [other, "and", one]))
    differ = not torch.allclose(forth, back, atol=1e-5)
    hold(differ, "another state behind media in another order", "the same", "let features and latents depend on media")


@demand()
def later_parts_change_nothing_before(subject: Subject) -> None:
    """What stands behind a part does not reach the rows before: two-way spans look at themselves alone."""
    model = subject.model()
    (alone,), (more,) = (
        hidden(model, ["one", example(model)]),
        hidden(model, ["one", example(model), "two", example(model, 1)]),
    )
    rows = len(alone) - 1  # without the mark that ends the message
    same(more[:rows], alone[:rows], "the states of the shorter prompt", "prepare each item by itself")


@demand()
def packed_equals_alone(subject: Subject) -> None:
    """In one pass with another prompt it gives what it gives alone."""
    model = subject.model()
    prompts: list[list[str | Media]] = [["one", example(model)], [example(model, 1), "two"], [example(model, 2)]]
    for together, prompt in zip(hidden(model, *prompts), prompts, strict=True):
        same(together, hidden(model, prompt)[0], "the states of the prompt alone", "no statistics over a batch")


@demand()
def text_is_as_without_it(subject: Subject) -> None:
    """A model that has it, and a prompt that does not use it: text is as in the model without it."""
    with_it, without = subject.model(), subject.model(alone=True)
    for name in ("backbone", "text"):
        without.components[name].load_state_dict(with_it.components[name].state_dict())
    expected, advice = "the logits of the model without it", "change nothing global when it is built"
    same(with_it.logits("one and two"), without.logits("one and two"), expected, advice, 0.0)


@demand(_decodes)
def budget_closes_the_span(subject: Subject) -> None:
    """A budget of one row ends the part after one, and that is a valid part."""
    model, modality = subject.model(), subject.spec.modality
    reply = model.generate("one", want=[modality], budgets={modality: 1})
    hold(reply.usage.rows.get(modality) == 1, "one row", reply.usage.rows, "let any row count decode")


@demand(lambda subject: subject.spec.can.deterministic)
def same_seed_same_reply(subject: Subject) -> None:
    """``deterministic``: one prompt and one seed give one reply."""
    model = subject.model()
    one, other = (model.generate(["one", example(model)], seed=7, **want(subject)) for _ in range(2))
    same_reply(other, one, "the reply of before", "draw from no global generator")


@demand(lambda subject: subject.spec.can.batched)
def replies_do_not_depend_on_neighbours(subject: Subject) -> None:
    """``batched``: a request says in a batch what it says alone."""
    model = subject.model()
    prompts = [["one", example(model, seed)] for seed in range(3)]
    together = model.generate_batch(prompts, seed=4, **want(subject))
    alone = model.generate(prompts[2], seed=6, **want(subject))
    same_reply(together[2], alone, "what it says alone", "no statistics over a batch")


@demand()
def bad_prompt_harms_no_neighbour(subject: Subject) -> None:
    """A prompt that is refused leaves the others of its batch as they are."""
    model = subject.model()
    good: list[str | Media] = ["one", example(model)]
    bad: Media = next(iter(subject.refuses), stranger(subject.spec.modality))
    alone = model.generate(good, **want(subject))
    outcomes = model.generate_batch([good, [bad], good], errors="return", **want(subject))
    if not isinstance(outcomes[1], AnyanyError):
        fail("a typed error for media that it refuses", repr(outcomes[1])[:80], "raise MediaError in prepare()")
    same_reply(outcomes[0], alone, "what it says alone", "keep no state in prepare()")


@demand(_decodes)
def guidance_forks_and_joins(subject: Subject) -> None:
    """With guidance, a branch without the prompt runs beside the request, and the part is valid."""
    model, modality = subject.model(), subject.spec.modality
    reply = model.generate(["one", example(model)], guidance=2.0, want=[modality, "text"], max_new_tokens=2)
    hold(reply.modalities == (modality, "text"), f"({modality!r}, 'text')", reply.modalities, "let any latents decode")


@demand()
def checkpoint_gives_the_same_reply(subject: Subject) -> None:
    """Saved and loaded again, the model replies as before."""
    model = subject.model()
    prompt: list[str | Media] = ["one", example(model)]
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model")
        again = load(f"{folder}/model", plugins=subject.plugins, device="cpu")
    reply = model.generate(prompt, **want(subject))
    same_reply(
        again.generate(prompt, **want(subject)),
        reply,
        "the reply of before",
        "keep all state in parameters and buffers",
    )
