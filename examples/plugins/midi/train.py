"""A small model learns what tunes are called, to write them, and to go on with them: python train.py"""

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
from anyany_midi.tunes import NAMES, cut, fits, joined, tune

HELD = NAMES[::5]  # of which the model never hears a tune: key, mode and form it knows from others
KNOWN = tuple(name for name in NAMES if name not in HELD)
WRITE, READ, GO_ON = "Write {}.", "What is this?", "Go on."


class Tunes:
    """A source: a name whose tune is asked for, a tune whose name is, or half a tune."""

    def __len__(self):
        return len(KNOWN)

    def sample(self, index, draw):
        """All randomness comes from ``draw``."""
        name, kind = KNOWN[index], draw.random()
        notes = tune(name, draw)
        if kind < 0.4:
            question, answer = [WRITE.format(name)], notes
        elif kind < 0.8:
            question, answer = [notes, READ], name
        else:
            first, answer = cut(notes)
            question = [first, GO_ON]
        return [Message("user", question), Message("assistant", [answer])]


def new():
    """A backbone of three layers, and this plugin."""
    size = BackboneConfig(width=96, layers=3, heads=4, sections=(6, 3, 3), scheme="index")
    words = TextTokenizer.train([*(WRITE.format(name) for name in NAMES), READ, GO_ON] * 4, 320)
    return anyany.compose(backbone=size, tokenizer=words, encoders=["midi"], decoders=["midi"])


def run(steps, out):
    """One recipe; what it leaves behind lies in ``out``."""
    recipe = {
        "name": "midi", "model": "__main__:new", "rates": {"": 3e-3}, "rows": 512, "steps": steps, "warmup": 20,
        "sources": {"tunes": {"factory": "__main__:Tunes"}}, "log_every": 50, "checkpoint_every": steps,
    }  # fmt: skip
    return train(make_recipe(recipe), out).model


def share(right):
    return round(float(np.mean(right)), 3)


def measure(model, names, draw):
    """Shares of what is right, by the rule, beside what is right by chance."""
    tunes = [tune(name, draw) for name in names]
    halves = [cut(notes) for notes in tunes]
    greedy = {"temperature": 0.0, "max_new_tokens": 20, "budgets": {"midi": 20}}
    written = model.generate_batch([WRITE.format(name) for name in names], want=["midi"], **greedy)
    read = model.generate_batch([[notes, READ] for notes in tunes], want=["text"], **greedy)
    gone_on = model.generate_batch([[first, GO_ON] for first, _ in halves], want=["midi"], **greedy)
    other = [tune(name, draw) for name in draw.choice(NAMES, len(names))]
    return {
        "writes": {
            "value": share([fits(r.parts[0], name) for r, name in zip(written, names)]),
            "baseline": share([fits(notes, name) for notes, name in zip(other, names)]),
        },
        "reads": {
            "value": share([r.text == name for r, name in zip(read, names)]),
            "baseline": 1 / len(NAMES),
        },
        "goes_on": {
            "value": share([fits(joined(h[0], r.parts[0]), n) for r, h, n in zip(gone_on, halves, names)]),
            "baseline": share([fits(joined(h[0], h[0]), n) for h, n in zip(halves, names)]),
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, and names that it was trained on")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    steps = 150 if args.quick else 1500
    model = run(steps, args.out / f"midi-{steps}")
    draw = np.random.default_rng(1)
    for kind, names in {"known": KNOWN, "never trained on": HELD}.items():
        figures = measure(model, names, draw)
        print(kind, figures)
        if args.quick:
            break
    print(json.dumps(figures))
