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

from anyany.eval.run import Evaluation
from anyany.mini import build, files
from anyany.mini.sources import Digits, conversation
from anyany.mini.words import NUMBERS, READ, choose
from anyany.model import Model, load
from anyany.parts import Image, Message
from anyany.plugin.evaluation import Item, Task
from anyany.training.ledger import COLUMNS, rows
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe

GERMAN = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
IN_GERMAN = "What digit is this, in German?"
PICTURES, SPEECH = "anyany.mini.sources_pairs:PicturePairs", "anyany.mini.sources_pairs:SpeechPairs"


class German(Digits):
    """A picture in, its digit in German out."""

    def __len__(self) -> int:
        return len(self.pictures)

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        image = Image.from_array(self.pictures[index])
        return conversation(draw, [image, IN_GERMAN], [GERMAN[self.labels[index]]])


class Written(Digits):
    """Text alone: a digit in words where a picture could stand, or a sum; the answer in words."""

    def __len__(self) -> int:
        return 10_000

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        """One conversation."""
        a, b = (int(x) for x in draw.integers(0, 10, 2))
        if draw.random() < 0.5:
            return conversation(draw, [f"{NUMBERS[a]} plus {NUMBERS[b]}"], [NUMBERS[a + b]])
        parts = [NUMBERS[a], choose(draw, READ)]
        return conversation(draw, [" ".join(parts if draw.random() < 0.5 else parts[::-1])], [NUMBERS[a]])


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


def figures(model: Model, *tasks: str, limit: int) -> dict[str, float | None]:
    """Values of tasks of ``anyany eval``."""
    return {result.task: result.value for result in Evaluation(model).run(tasks, limit=limit)}


def fresh(model: Model, component: str) -> None:
    """Weights of a component as those of a new model."""
    torch.manual_seed(1)
    model.components[component].load_state_dict(build.new().components[component].state_dict())


# The proofs.


def bind(steps: int = 600, limit: int = 1000) -> None:
    """R@1 over ten digits between text, pictures and recordings; pairs hold words and one of the two."""
    model = build.new()
    recipe = {"task": "bind", "steps": steps, "warmup": steps // 12, "rows": 128, "seed": 5}
    rates = {"encoder/image/patch": 1e-3, "encoder/audio/logmel": 1e-3, "projector/": 1e-3, "text": 1e-3}
    trained("bind", model, {"pictures": PICTURES, "speech": SPEECH}, {**recipe, "rates": rates})
    (found,) = Evaluation(model).run(["binding"], limit=limit)
    for pair, cell in found.more["cells"].items():
        if "video" not in pair:  # no clip was in these pairs
            print(f"{pair:14}{cell['value']:.3f}  {'trained' if cell['trained'] else 'never paired'}")


def align_in(steps: int = 400, limit: int = 2000) -> None:
    """``image-to-text``: a projector between a language model that has seen text alone and mini's encoder of pictures.

    Against everything trained from the same beginning, on 2,000 pictures.
    """
    model = build.new()
    model.components["encoder/image/patch"].load_state_dict(load("mini").components["encoder/image/patch"].state_dict())
    recipe = {"steps": steps, "warmup": steps // 10, "rows": 1024, "seed": 5}
    words = {"written": "anyany.eval.proofs:Written"}
    trained("align-in-language", model, words, {**recipe, "rates": {"backbone": 1.5e-3, "text": 1.5e-3}})
    print("sums, all hundred:", _sums(model))
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    values = {}
    for name, rates in (("projector", {"projector/image/patch": 2e-3}), ("everything", {"": 5e-4, "codec/": 0.0})):
        model.load_state_dict(begun)
        print("before:", figures(model, "image-to-text", limit=limit))
        run = trained(f"align-in-{name}", model, {"read": "anyany.mini.sources:Read"}, {**recipe, "rates": rates})
        values[name] = figures(run.model, "image-to-text", limit=limit)["image-to-text"] or 0.0
        print(f"{name}: {values[name]}")
    print(f"projector / everything: {values['projector'] / (values['everything'] or float('nan')):.3f}")


def align_out(steps: int = 3200, limit: int = 500) -> None:
    """``text-to-speech``, 500 recordings, by the recogniser of ``anyany eval``: a new head on a frozen backbone."""
    model = load("mini")
    fresh(model, "head/audio/melcodes")
    recipe = {"steps": steps, "warmup": steps // 36, "rows": 1024, "seed": 5, "weights": {"text": 0.0}}
    run = trained(
        "align-out", model, {"say": "anyany.mini.sources:Say"}, {**recipe, "rates": {"head/audio/melcodes": 3e-3}}
    )
    print(figures(run.model, "text-to-speech", limit=limit))


def lora(steps: int = 300, limit: int = 1000) -> None:
    """Digits in German, 1,000 test pictures, with an adapter of the backbone on and off; and old tasks beside it."""
    model = load("mini")
    old = ("image-to-text", "speech-to-text", "arithmetic")
    before, german = figures(model, *old, limit=min(limit, 300)), _german(model, limit)
    adapter = {"targets": ["backbone"], "rate": 2e-3, "rank": 8}
    recipe = {"steps": steps, "warmup": steps // 15, "rows": 512, "seed": 5, "lora": adapter}
    run = trained("lora", model, {"german": "anyany.eval.proofs:German"}, recipe)
    print(f"in German: before {german}, adapter on {_german(run.model, limit)}")
    on = figures(run.model, *old, limit=min(limit, 300))
    run.model.adapters.use(None)
    print(f"in German, adapter off: {_german(run.model, limit)}")
    print(f"{'':12}", *old)
    for name, values in (("before", before), ("on", on), ("off", figures(run.model, *old, limit=min(limit, 300)))):
        print(f"{name:12}", *values.values())


def _sums(model: Model) -> float | None:
    pairs = [(a, b) for a in range(10) for b in range(10)]
    items = [
        Item(prompt=[f"{NUMBERS[a]} plus {NUMBERS[b]}"], references=((NUMBERS[a + b],),), want=("text",))
        for a, b in pairs
    ]
    return Evaluation(model).task("sums", Task(items=items, metrics=("exact-match",))).value


def _german(model: Model, limit: int) -> float | None:
    images, labels = files.mnist("t10k")
    items = [
        Item(prompt=[Image.from_array(image), IN_GERMAN], references=((GERMAN[label],),), want=("text",))
        for image, label in zip(images[:limit], labels, strict=False)
    ]
    return Evaluation(model).task("german", Task(items=items, metrics=("exact-match",))).value


PROOFS: dict[str, Callable[..., None]] = {"bind": bind, "align-in": align_in, "align-out": align_out, "lora": lora}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("proof", choices=PROOFS)
    PROOFS[parser.parse_args().proof]()
