"""A small model learns what bodies are called, and to make them: python train.py"""

import argparse
import json
from pathlib import Path

import anyany
import numpy as np
from anyany.backbone import BackboneConfig
from anyany.model import TextTokenizer
from anyany.parts import Message
from anyany.training.loop import train
from anyany.training.recipe import make_recipe
from anyany_points.solids import NAMES, apart, cloud
from sklearn.ensemble import RandomForestClassifier

MAKE, READ = "Make a {}.", "What is this?"


class Bodies:
    """A source: a name whose body is asked for, or points whose name is."""

    def __init__(self, made=0.5):
        self.made = made

    def __len__(self):
        return len(NAMES)

    def sample(self, index, draw):
        """All randomness comes from ``draw``."""
        name = NAMES[index]
        points = cloud(name, draw)
        question, answer = (MAKE.format(name), points) if draw.random() < self.made else ([points, READ], name)
        return [Message("user", question), Message("assistant", answer)]


def new():
    """A backbone of four layers, and this plugin."""
    size = BackboneConfig(width=128, layers=4, heads=4, sections=(8, 4, 4), scheme="grid")
    words = TextTokenizer.train([*(MAKE.format(name) for name in NAMES), READ] * 4, 300)
    return anyany.compose(backbone=size, tokenizer=words, encoders=["points"], decoders=["points"])


def run(steps, rows, out):
    """One recipe; what it leaves behind lies in ``out``."""
    recipe = {
        "name": "points", "model": "__main__:new", "rates": {"": 2e-3}, "rows": rows, "steps": steps, "warmup": 20,
        "sources": {"bodies": {"factory": "__main__:Bodies"}}, "log_every": 50, "checkpoint_every": steps,
    }  # fmt: skip
    return train(make_recipe(recipe), out).model


def judge(codec, each, draw):
    """What tells bodies apart has seen sampled ones alone, with as many points as the codec keeps; and how often it is right."""

    def given(count):
        names = [NAMES[i % len(NAMES)] for i in range(count)]
        kept = anyany.detokenize(codec, anyany.tokenize(codec, [cloud(name, draw) for name in names]))
        return np.array([apart(points) for points in kept]), names

    forest = RandomForestClassifier(100, random_state=0).fit(*given(each * len(NAMES)))
    return forest, float(forest.score(*given(10 * len(NAMES))))


def measure(model, each, draw):
    """Shares of what is right, beside what is right by chance."""
    names = [name for name in NAMES for _ in range(each)]
    read = model.generate_batch(
        [[cloud(name, draw), READ] for name in names], want=["text"], temperature=0.0, max_new_tokens=8
    )
    forest, certain = judge(model.codecs["points/set"], each, draw)
    made = model.generate_batch([MAKE.format(name) for name in names], want=["points"], steps=12)
    noise = [anyany.detokenize(model.codecs["points/set"], [draw.normal(size=(64, 3))])[0] for _ in names]
    right = [
        forest.predict([apart(points) for points in clouds]) == names for clouds in ([r.parts[0] for r in made], noise)
    ]
    print(f"the judge is right about {certain:.3f} of sampled bodies")
    return {
        "reads": {"value": round(float(np.mean([r.text == name for r, name in zip(read, names)])), 3),
                  "baseline": round(1 / len(NAMES), 3)},
        "makes": {"value": round(float(right[0].mean()), 3), "baseline": round(float(right[1].mean()), 3)},
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, on smaller batches")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    steps, rows = (150, 512) if args.quick else (1500, 1024)
    model = run(steps, rows, args.out / f"points-{steps}")
    print(json.dumps(measure(model, 20 if args.quick else 50, np.random.default_rng(1))))
