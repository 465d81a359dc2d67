"""A small model learns to name activities from a watch, and to make recordings of them: python train.py"""

import argparse
import json
from pathlib import Path

import anyany
from anyany.backbone import BackboneConfig
from anyany.eval.run import Evaluation
from anyany.model import TextTokenizer
from anyany.parts import Message
from anyany.training.loop import train
from anyany.training.recipe import make_recipe
from anyany_inertial.activities import NAMES, RATE, WINDOW, judge, recordings, seen
from anyany_inertial.media import Inertial


class Activities:
    """A source: half of the time a piece of a recording and its name, half of the time the other way round."""

    def __len__(self):
        return len(recordings("train"))

    def sample(self, index, draw):
        """All randomness comes from ``draw``."""
        media, name = recordings("train")[index]
        start = int(draw.integers(len(media.readings) - WINDOW + 1))
        piece = Inertial(media.readings[start : start + WINDOW], RATE)
        if draw.random() < 0.5:
            return [Message("user", (f"Show {name}.",)), Message("assistant", (piece,))]
        whole = media if draw.random() < 0.5 else piece
        return [Message("user", (whole, "What is done?")), Message("assistant", (name,))]


def new():
    """A backbone of two layers, and this plugin."""
    size = BackboneConfig(width=64, layers=2, heads=4, sections=(4, 2, 2), scheme="time")
    words = TextTokenizer.train(["What is done?", *(f"Show {name}. {name}" for name in NAMES)], 320)
    return anyany.compose(backbone=size, tokenizer=words, encoders=["inertial"], decoders=["inertial"])


def run(steps, out):
    """One recipe; what it leaves behind lies in ``out``."""
    recipe = {
        "name": "activities", "model": "__main__:new", "rates": {"": 2e-3}, "rows": 256, "steps": steps, "warmup": 20,
        "sources": {"activities": {"factory": "__main__:Activities"}}, "log_every": 100, "checkpoint_every": steps,
    }  # fmt: skip
    return train(make_recipe(recipe), out).model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twelfth of the steps")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    model = run(250 if args.quick else 3000, args.out / ("quick" if args.quick else "whole"))
    reads, makes = Evaluation(model).run(["inertial/reads", "inertial/makes"])
    test = recordings("test")
    right = judge().score([seen(media) for media, _ in test], [name for _, name in test])
    print(f"the judge is right about {right:.3f} of the real test recordings")
    print(json.dumps({
        result.task.split("/")[1]: {"value": result.value, "baseline": result.figures[result.metric].baseline}
        for result in (reads, makes)
    }))  # fmt: skip
