"""Does it learn: a codec by itself, a head from its latents, an encoder through the backbone?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyany.model import Model
from anyany.parts import Media
from anyany.parts.messages import Message
from anyany.testing.compare import same
from anyany.testing.gated import learning
from anyany.testing.kit import demand, hold, listed
from anyany.testing.sequence import example
from anyany.testing.subject import Subject

STEPS = 25
RATE = 3e-3


def _learns_alone(subject: Subject) -> bool:
    return subject.decodes and subject.spec.can.trainable


def _weights(module: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in module.parameters() if weight.requires_grad]


@demand(_learns_alone)
def codec_learns_its_examples(subject: Subject) -> None:
    """``trainable``: a few steps on its own examples lower the loss of the codec."""
    codec = subject.build().train()
    if not _weights(codec):
        return
    optimizer = torch.optim.Adam(_weights(codec), RATE)
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(STEPS):
            loss = learning(subject, codec)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    _fell(losses, "look at loss(): its terms, and what their gradients reach")


def _fell(losses: list[float], advice: str) -> None:
    """The last losses are below the first ones; three of each, because steps are noisy."""
    first, last = sum(losses[:3]) / 3, sum(losses[-3:]) / 3
    hold(last < first, f"a loss below {first:.4g} after {len(losses)} steps", f"{last:.4g}", advice)


@demand(lambda subject: subject.decodes)
def head_learns_its_examples(subject: Subject) -> None:
    """A tiny model that is trained to say its examples has a lower loss of its head after a few steps."""
    model = subject.model().train()
    name, codec = next(iter(model.codecs.items()))
    head, media = model.heads[name], [example(model, seed) for seed in range(2)]
    head.fit(torch.cat([subject.run(codec.eval(), [codec.prepare(item)]) for item in media]))  # type: ignore[attr-defined]
    optimizer = torch.optim.Adam([*head.parameters(), *model.backbone.parameters()], RATE)
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(STEPS):
            loss = _loss(model, name, [("one", media[0]), ("two", media[1])])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    _fell(losses, "give latents of about one size, which depend on the media")


def _loss(model: Model, name: str, talks: list[tuple[str | Media, str | Media]]) -> Tensor:
    """Mean loss of one head over pairs of what is asked and what is said."""
    messages = [[Message("user", (asked,)), Message("assistant", (said,))] for asked, said in talks]
    documents = [model.planner.plan(pair, train=True) for pair in messages]
    found = model(documents, torch.Generator().manual_seed(0))[name]
    mean: Tensor = found.total / found.rows
    return mean


@demand(lambda subject: subject.encodes and subject.spec.can.trainable)
def text_trains_the_encoder(subject: Subject) -> None:
    """``trainable``: the loss of text behind its features reaches its weights through the backbone."""
    model = subject.model().train()
    encoder: nn.Module = next(iter(model.encoders.values()))  # type: ignore[assignment]
    _loss(model, "text", [(example(model, 0), "one"), (example(model, 1), "two")]).backward()
    without = [n for n, w in encoder.named_parameters() if w.requires_grad and (w.grad is None or not w.grad.any())]
    few = len(without) < len(_weights(encoder)) or not _weights(encoder)
    hold(few, "gradients that are not zero", f"none for {listed(without)}", "detach nothing in the forward pass")


@demand()
def training_mode_can_be_left(subject: Subject) -> None:
    """After a pass in training mode, ``eval()`` gives the same numbers twice."""
    component = subject.build().train()
    with torch.random.fork_rng(devices=[]):
        learning(subject, component)
    component.eval()
    batch = subject.batch(component)
    one, other = subject.run(component, batch), subject.run(component, batch)
    same(other, one, "the same output twice", "let train() and eval() reach all of it")
