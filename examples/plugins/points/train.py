"""A small model learns what bodies are called, and to make them: python train.py"""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier

import anyany
from anyany.backbone import BackboneConfig
from anyany.model import TextTokenizer
from anyany.parts import Message
from anyany.training.loop import train
from anyany.training.recipe import make_recipe
from anyany_points.media import Points
from anyany_points.solids import NAMES, apart, cloud, spread

MAKE, READ = "Make a {}.", "What is this?"


class Bodies:
    """A source: a name whose body is asked for, or points whose name is."""

    def __len__(self):
        return len(NAMES)

    def sample(self, index, draw):
        """All randomness comes from ``draw``."""
        name = NAMES[index]
        points = cloud(name, draw)
        question, answer = ([MAKE.format(name)], points) if draw.random() < 0.5 else ([points, READ], name)
        return [Message("user", question), Message("assistant", [answer])]


class Clouds(Bodies):
    """Points for the training of the codec."""

    def sample(self, index, draw):
        return cloud(NAMES[index], draw)


class Pairs(Bodies):
    """Points and the name for them, which are to lie together before the backbone has to read any."""

    def sample(self, index, draw):
        return cloud(NAMES[index], draw), NAMES[index]


def new():
    """A backbone of two layers, and this plugin."""
    size = BackboneConfig(width=96, layers=2, heads=4, scheme="index")
    words = TextTokenizer.train([*(MAKE.format(name) for name in NAMES), READ] * 4, 300)
    return anyany.compose(backbone=size, tokenizer=words, encoders=["points"], decoders=["points"])


def run(task, model, source, rates, rows, steps, out):
    """One recipe; what it leaves behind lies in ``out``."""
    recipe = {
        "name": task, "task": task, "model": model, "rates": rates, "rows": rows, "steps": steps, "warmup": 20,
        "sources": {"bodies": {"factory": f"__main__:{source}"}}, "log_every": 50, "checkpoint_every": steps,
    }  # fmt: skip
    return train(make_recipe(recipe), out).model


def judge(count, each, draw):
    """What tells bodies apart: it has seen sampled ones alone, of as many points as the codec makes."""

    def given(names):
        points = [cloud(name, draw).points for name in names]
        return np.array([apart(Points(some[spread(some, count)])) for some in points]), names

    forest = RandomForestClassifier(100, random_state=0).fit(*given(NAMES * each))
    print(f"the judge is right about {forest.score(*given(NAMES * each)):.3f} of other bodies")
    return forest


def measure(model, each, draw):
    """Shares of what is right, beside those of guesses: one name for all, and points of a normal distribution."""
    names, count = NAMES * each, model.codecs["points/set"].count
    asked = [[cloud(name, draw), READ] for name in names]
    read = model.generate_batch(asked, want=["text"], temperature=0.0, max_new_tokens=8)
    made = model.generate_batch([MAKE.format(name) for name in names], want=["points"])
    noise = [Points(draw.normal(size=(count, 3))) for _ in names]
    forest = judge(count, each, draw)

    def share(told):
        return round(float(np.mean(np.array(told) == names)), 3)

    def judged(clouds):
        return share(forest.predict([apart(points) for points in clouds]))

    return {
        "reads": {"value": share([reply.text for reply in read]), "baseline": share([NAMES[0]] * len(names))},
        "makes": {"value": judged([reply.parts[0] for reply in made]), "baseline": judged(noise)},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the steps")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    codec, bind, steps = (160, 50, 100) if args.quick else (640, 200, 400)
    made, bound = args.out / f"codec-{codec}", args.out / f"bind-{bind}"
    run("codec", "__main__:new", "Clouds", {"codec/": 3e-3}, 24, codec, made)
    rates = {"encoder/": 2e-3, "projector/": 2e-3, "text": 2e-3}
    run("bind", str(made / "model"), "Pairs", rates, 32, bind, bound)
    rates = {"": 2e-3, "codec/": 0}
    model = run("sequence", str(bound / "model"), "Bodies", rates, 256, steps, args.out / f"points-{steps}")
    print(json.dumps(measure(model, 20 if args.quick else 50, np.random.default_rng(1))))
