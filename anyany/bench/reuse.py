"""What is kept from request to request: a picture that was shown before, and the next turn of a chat."""

from __future__ import annotations

from typing import Any

import torch

from anyany.bench.measure import Figure, quartiles, rounds_of, seconds
from anyany.errors import AnyanyError
from anyany.model import Caches, Model, load
from anyany.model.caches import FEATURE_BYTES

WORDS = "What is this? Say it in words, and say what it is not, and why it is not that. "


def picture(rounds: int) -> Figure:
    """Time to the first token: a picture of which the encoder's rows are kept, against rows that are given.

    Keys and values are not kept, so that both sides read the whole prompt.

    Raises:
        AnyanyError: The replies differ.
    """
    model = load(device="cpu")
    prompt = [WORDS, _example(model, 0), WORDS]
    keeps, bare = Caches(FEATURE_BYTES, 0), Caches(0, 0)
    name, encoder, _ = next(iter(model.planner.encoders.values()))
    with torch.inference_mode():
        rows = encoder([encoder.prepare(prompt[1])])
    producers = {f"encoder/{name}": encoder}, {f"encoder/{name}": lambda items: rows}

    def repeated() -> str:
        model.caches = keeps
        model.producers.update(producers[0])
        return _first(model, prompt)

    def given() -> str:
        model.caches = bare
        model.producers.update(producers[1])
        return _first(model, prompt)

    if repeated() != given():
        raise AnyanyError("media-cache: the replies differ, so that speed says nothing")
    times = rounds_of((repeated, given), 5 * rounds)
    if keeps.features.misses != 1:
        raise AnyanyError(f"media-cache: the encoder saw {keeps.features.misses} pictures, and there is one")
    return Figure(
        id="media-cache",
        what="time to the first token of mini, a picture that was shown before",
        quartiles=quartiles([plain / kept for kept, plain in times]),
        peer="the same prompt with given features",
        goal=0.95,
    )


def turn(rounds: int) -> Figure:
    """Time to the first token of the second turn of a chat about a picture.

    Raises:
        AnyanyError: It is answered differently.
    """
    model = load(device="cpu")
    asked = {"role": "user", "content": [_example(model, 0), WORDS * 12]}
    ratios = []
    for _ in range(1 + rounds):
        model.caches = Caches()
        said = model.generate([asked], want=["text"], max_new_tokens=16, temperature=0.0).text
        chat = [asked, {"role": "assistant", "content": said}, {"role": "user", "content": "And now?"}]
        answers: list[str] = []
        kept = seconds(lambda chat=chat, answers=answers: answers.append(_first(model, chat)))  # type: ignore[misc]
        model.caches = Caches(0, 0)
        plain = seconds(lambda chat=chat, answers=answers: answers.append(_first(model, chat)))  # type: ignore[misc]
        if answers[0] != answers[1]:
            raise AnyanyError(f"chat-turn: the answers differ, so that speed says nothing: {answers}")
        ratios.append(plain / kept)
    return Figure(
        id="chat-turn",
        what="time to the first token of a chat's second turn, mini",
        quartiles=quartiles(ratios[1:]),
        peer="the chat read from its beginning",
        goal=3.0,
    )


def _first(model: Model, prompt: Any) -> str:
    return model.generate(prompt, want=["text"], max_new_tokens=1, temperature=0.0).text


def _example(model: Model, seed: int) -> Any:
    return next(iter(model.planner.encoders.values()))[1].example(seed)
