"""A small model learns what tunes are called, to write them, and to go on with them: python train.py"""

import argparse
import json
from pathlib import Path

import numpy as np

import anyany
from anyany.backbone import BackboneConfig
from anyany.model import TextTokenizer
from anyany.parts import Message
from anyany.training.loop import train
from anyany.training.recipe import make_recipe
from anyany_midi.tunes import KEYS, NAMES, cut, fits, joined, tune

HELD = NAMES[::5]  # of which the model never hears a tune: key, mode and form it knows from others
KNOWN = tuple(name for name in NAMES if name not in HELD)
EASY = tuple(f"{key} major scale" for key in KEYS)
WRITE, READ, GO_ON = "Write {}.", "What is this?", "Go on."


class Tunes:
    """A source: a name whose tune is asked for, a tune whose name is, or half a tune."""

    def __init__(self, names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def sample(self, index, draw):
        """All randomness comes from ``draw``."""
        name, kind = self.names[index], draw.random()
        notes = tune(name, draw)
        if kind < 0.3:
            question, answer = [WRITE.format(name)], notes
        elif kind < 0.6:
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


def run(names, steps, out):
    """One recipe; what it leaves behind lies in ``out``."""
    recipe = {
        "name": "midi", "model": "__main__:new", "rates": {"": 3e-3}, "rows": 384, "steps": steps, "warmup": 20,
        "sources": {"tunes": {"factory": "__main__:Tunes", "options": {"names": list(names)}}},
        "log_every": 50, "checkpoint_every": steps,
    }  # fmt: skip
    return train(make_recipe(recipe), out).model


def measure(model, names, others, draw):
    """Shares of what is right by the rule, beside those of tunes and names that are drawn from ``others``."""
    tunes, by_chance = [tune(name, draw) for name in names], draw.choice(others, (2, len(names)))
    halves = [cut(notes) for notes in tunes]
    rests = [cut(tune(name, draw))[1] for name in by_chance[1]]
    greedy = {"temperature": 0.0, "max_new_tokens": 20, "budgets": {"midi": 20}}
    written = model.generate_batch([WRITE.format(name) for name in names], want=["midi"], **greedy)
    read = model.generate_batch([[notes, READ] for notes in tunes], want=["text"], **greedy)
    gone_on = model.generate_batch([[first, GO_ON] for first, _ in halves], want=["midi"], **greedy)

    def shares(written, read, gone_on):
        wholes = [joined(first, rest) for (first, _), rest in zip(halves, gone_on, strict=True)]
        right = {
            "writes": [fits(notes, name) for notes, name in zip(written, names, strict=True)],
            "reads": [text == name for text, name in zip(read, names, strict=True)],
            # Any name will do: half a scale may belong to two modes.
            "goes_on": [any(fits(whole, name) for name in NAMES) for whole in wholes],
        }
        return {task: round(float(np.mean(each)), 3) for task, each in right.items()}

    values = shares([r.parts[0] for r in written], [r.text for r in read], [r.parts[0] for r in gone_on])
    baselines = shares([tune(name, draw) for name in by_chance[0]], by_chance[0], rests)
    return {task: {"value": values[task], "baseline": baselines[task]} for task in values}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, for the twelve major scales alone")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    names, steps = (EASY, 260) if args.quick else (KNOWN, 2000)
    model = run(names, steps, args.out / f"midi-{steps}")
    figures = measure(model, names, names, np.random.default_rng(1))
    if not args.quick:
        print("names that it was trained on:", json.dumps(figures))
        figures = measure(model, HELD, NAMES, np.random.default_rng(2))
    print(json.dumps(figures))
