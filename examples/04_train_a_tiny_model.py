"""A source and two recipes of one's own: a model learns to say where the light is, and to draw it.

First the codec learns its pictures, then everything else learns the words; ``--steps 300`` is long enough for both.
"""

import argparse
from pathlib import Path

import numpy as np

import anyany
from anyany import Image
from anyany.backbone import BackboneConfig
from anyany.model import TextTokenizer
from anyany.parts import Message
from anyany.training.loop import train
from anyany.training.recipe import make_recipe

HALVES = {"left": np.s_[:, :14], "right": np.s_[:, 14:], "top": np.s_[:14], "bottom": np.s_[14:]}


class Light:
    def __init__(self, pictures_only=False):
        self.pictures_only = pictures_only

    def __len__(self):
        return len(HALVES)

    def sample(self, index, draw):  # all randomness comes from ``draw``
        word = list(HALVES)[index]
        pixels = np.zeros((28, 28))
        pixels[HALVES[word]] = draw.uniform(0.6, 1.0)
        if self.pictures_only:
            return Image.from_array(pixels)
        pair = (f"{word}?", Image.from_array(pixels)) if draw.random() < 0.5 else (Image.from_array(pixels), word)
        return [Message("user", pair[:1]), Message("assistant", pair[1:])]


def new():
    size = BackboneConfig(width=64, layers=2, heads=4, sections=(4, 2, 2), scheme="grid")
    words = TextTokenizer.train([f"{word}? {word}" for word in HALVES], 300)
    return anyany.compose(backbone=size, tokenizer=words, encoders=["image"], decoders=["image"])


def recipe(task, model, rates, rows, **options):
    sources = {"light": {"factory": "__main__:Light", "options": options}}
    return make_recipe({"name": task, "task": task, "model": model, "rates": rates, "rows": rows, "sources": sources,
                        "steps": args.steps, "log_every": 10})  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    train(recipe("codec", "__main__:new", {"codec/": 2e-3}, 32, pictures_only=True), args.out / "codec")
    run = train(recipe("sequence", str(args.out / "codec/model"), {"": 1e-3, "codec/": 0.0}, 512), args.out / "light")
    for word in HALVES:
        drawn = run.model.generate(f"{word}?", want=["image"], temperature=0.0).parts[0]
        print(f"{word}: reads {run.model.generate(drawn, want=['text'], max_new_tokens=4).text!r} in its own drawing")
