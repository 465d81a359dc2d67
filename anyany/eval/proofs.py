"""Proofs on real data of what training claims: ``python -m anyany.eval.proofs NAME``; each prints its table.

``bind``: pictures and recordings, each paired with words alone, find each other. ``align-in``: a new projector between
a frozen encoder and a frozen language model does what training everything does. ``align-out``: a new head on a frozen
backbone speaks. ``lora``: an adapter learns a task, and the old ones are kept bit for bit where it is off.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyany.eval import tasks_digits
from anyany.eval.scores import replies
from anyany.mini import build, files
from anyany.mini.sources import FIRST_TRAINED, UNSEEN_SPEAKER, Digits, conversation
from anyany.mini.words import NUMBERS
from anyany.model import Model, load
from anyany.parts import Image, Message
from anyany.training.bind import Bind, cosines, vectors
from anyany.training.ledger import COLUMNS, rows
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe

GERMAN = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
PICTURES, SPEECH = "anyany.mini.sources_pairs:PicturePairs", "anyany.mini.sources_pairs:SpeechPairs"


class German(Digits):
    """A picture in, its digit in German out."""

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        image = Image.from_array(self.pictures[index])
        return conversation(draw, [image, "What digit is this, in German?"], [GERMAN[self.labels[index]]])


def trained(name: str, model: Model, sources: Mapping[str, str], options: Mapping[str, Any]) -> Run:
    """A run in ``runs/proof-<name>``, gone on with if it was begun; prints which components it changed."""
    entries = {source: {"factory": factory} for source, factory in sources.items()}
    recipe = make_recipe({"name": name, "model": "given", "sources": entries, "log_every": 50, **options})
    run = Run(recipe, Path("runs") / f"proof-{name}", model)
    run.resume()
    run.run()
    changed = [entry for entry in run.entries() if entry.changed or entry.trainable]
    for cells in (COLUMNS, *rows(changed)):
        print("  ".join(f"{cell:26}" for cell in cells))
    print(f"all other components: {'bit-identical' if all(e.trainable for e in changed) else 'CHANGED'}")
    return run


def share(model: Model, *names: str, limit: int) -> dict[str, float]:
    """Values of tasks about digits."""
    return {name: getattr(tasks_digits, name)(model, limit)["value"] for name in names}


def fresh(model: Model, component: str) -> None:
    """Weights of a component as those of a new model."""
    torch.manual_seed(1)
    model.components[component].load_state_dict(build.new().components[component].state_dict())


# The proofs.


def bind() -> None:
    """R@1 over ten digits between text, pictures and recordings; pairs hold words and one of the two."""
    model = build.new()
    recipe = {"task": "bind", "steps": 600, "warmup": 50, "rows": 128, "seed": 5}
    rates = {"encoder/image/patch": 1e-3, "encoder/audio/logmel": 1e-3, "projector/": 1e-3, "text": 1e-3}
    trained("bind", model, {"pictures": PICTURES, "speech": SPEECH}, {**recipe, "rates": rates})
    sides = _sides(Bind(model, make_recipe({"name": "n", "model": "m", "sources": {"s": {"factory": PICTURES}}})))
    print(f"{'R@1 of ten':14}" + "".join(f"{name:>22}" for name in sides))
    for asked, (queries, digits) in sides.items():
        cells = []
        for found, (gallery, labels) in sides.items():
            cell = "" if asked == found else f"{_first(queries, digits, gallery, labels):.3f}"
            never = {asked, found} == {"image", "audio"}
            cells.append(f"{cell + (' never paired' if never else ' trained') if cell else '-':>22}")
        print(f"{asked:14}" + "".join(cells))


def _sides(task: Bind) -> dict[str, tuple[Tensor, np.ndarray]]:
    """Vectors and digits of words, MNIST test pictures, and test recordings of the speakers trained on."""
    images, labels = files.mnist("t10k")
    spoken = [r for r in files.spoken() if r.index < FIRST_TRAINED and r.speaker != UNSEEN_SPEAKER]
    parts: dict[str, tuple[list[Any], Any]] = {
        "text": (list(NUMBERS[:10]), np.arange(10)),
        "image": ([Image.from_array(image) for image in images[:1000]], labels[:1000]),
        "audio": ([record.audio for record in spoken], np.array([record.digit for record in spoken])),
    }
    task.model.eval()
    with torch.inference_mode():
        return {
            name: (
                torch.cat([vectors(task.model, [task.model.planner.plan([Message("user", (part,))])]) for part in own]),
                np.asarray(digits),
            )
            for name, (own, digits) in parts.items()
        }


def _first(queries: Tensor, digits: np.ndarray, gallery: Tensor, labels: np.ndarray) -> float:
    """Share of queries whose nearest among ten items, one drawn of each digit, is of their digit."""
    draw = np.random.default_rng(0)
    likeness = cosines(queries, gallery).numpy()
    right = []
    for row, digit in zip(likeness, digits, strict=True):
        ten = [draw.choice(np.flatnonzero(labels == d)) for d in range(10)]
        right.append(int(np.argmax(row[ten])) == digit)
    return float(np.mean(right))


def align_in() -> None:
    """``image-to-text``, 2,000 pictures: a new projector alone, and everything trained from the same beginning."""
    values = {}
    read = {"read": "anyany.mini.sources:Read"}
    recipe = {"steps": 400, "warmup": 40, "rows": 1024, "seed": 5}
    for name, rates in (("projector", {"projector/image/patch": 2e-3}), ("everything", {"": 5e-4, "codec/": 0.0})):
        model = load("mini")
        fresh(model, "projector/image/patch")
        print("before:", share(model, "image_to_text", limit=2000))
        run = trained(f"align-in-{name}", model, read, {**recipe, "rates": rates})
        values[name] = share(run.model, "image_to_text", limit=2000)["image_to_text"]
        print(f"{name}: {values[name]}")
    print(f"projector / everything: {values['projector'] / values['everything']:.3f}")


def align_out() -> None:
    """``text-to-speech``, 500 recordings, by the recogniser of ``anyany eval``: a new head on a frozen backbone."""
    model = load("mini")
    fresh(model, "head/audio/melcodes")
    recipe = {"steps": 1000, "warmup": 50, "rows": 1024, "seed": 5, "weights": {"text": 0.0}}
    run = trained(
        "align-out", model, {"say": "anyany.mini.sources:Say"}, {**recipe, "rates": {"head/audio/melcodes": 2e-3}}
    )
    print(share(run.model, "text_to_speech", limit=500))


def lora() -> None:
    """Digits in German, 1,000 test pictures, with an adapter of the backbone on and off; and old tasks beside it."""
    model = load("mini")
    old = ("image_to_text", "speech_to_text", "arithmetic")
    before, german = share(model, *old, limit=300), _german(model)
    adapter = {"targets": ["backbone"], "rate": 2e-3, "rank": 8}
    recipe = {"steps": 300, "warmup": 20, "rows": 512, "seed": 5, "lora": adapter}
    run = trained("lora", model, {"german": "anyany.eval.proofs:German"}, recipe)
    print(f"in German: before {german}, adapter on {_german(run.model)}")
    on = share(run.model, *old, limit=300)
    run.model.adapters.use(None)
    print(f"in German, adapter off: {_german(run.model)}")
    print(f"{'':12}", *old)
    for name, values in (("before", before), ("on", on), ("off", share(run.model, *old, limit=300))):
        print(f"{name:12}", *values.values())


def _german(model: Model) -> float:
    images, labels = files.mnist("t10k")
    prompts = [[Image.from_array(image), "What digit is this, in German?"] for image in images[:1000]]
    answers = replies(model, prompts, want=["text"])
    return float(np.mean([a.text == GERMAN[d] for a, d in zip(answers, labels, strict=False)]))


PROOFS: dict[str, Callable[[], None]] = {"bind": bind, "align-in": align_in, "align-out": align_out, "lora": lora}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("proof", choices=PROOFS)
    PROOFS[parser.parse_args().proof]()
