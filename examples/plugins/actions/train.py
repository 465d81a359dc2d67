"""Small models learn to act from conversations of observations and actions, then play: python train.py"""

import argparse
import json
from pathlib import Path

import numpy as np

import anyany
from anyany.backbone import BackboneConfig
from anyany.model import TextTokenizer
from anyany.training.loop import train
from anyany.training.recipe import make_recipe
from anyany_actions.worlds import WORLDS, Game, play

TURNS = 4
"""Observations that a conversation goes back, in training and in play."""


class Episodes:
    """A source: some turns of the policy by hand, behind a stretch in which half of its actions are drawn by lot."""

    def __init__(self, world):
        self.world = WORLDS[world]

    def __len__(self):
        return 1_000_000

    def sample(self, index, draw):
        """All randomness comes from ``draw``; seeds below 1000 are left for play."""
        while True:
            game = Game(self.world, 1000 + int(draw.integers(2**30)))
            for _ in range(draw.integers(40)):
                if not game.over:
                    game.do(game.at_random(draw) if draw.random() < 0.5 else game.by_hand())
            game.said = game.said[-1:]
            for _ in range(TURNS):
                if not game.over:
                    game.do(game.by_hand())
            if len(game.said) == 2 * TURNS + 1:
                return game.said[:-1]


def new(name):
    """A backbone of two layers, and this plugin; no word is ever said."""
    size = BackboneConfig(width=64, layers=2, heads=4)
    world = WORLDS[name]
    return anyany.compose(
        backbone=size, tokenizer=TextTokenizer.train([""], 270), encoders=[world.encoder], decoders=[world.decoder]
    )  # fmt: skip


def cartpole():
    """Where the recipe for it begins."""
    return new("cartpole")


def pendulum():
    """Likewise."""
    return new("pendulum")


def learn(name, steps, out):
    """One recipe; what it leaves behind lies in ``out``."""
    source = {"factory": "__main__:Episodes", "options": {"world": name}}
    recipe = {
        "name": name, "model": f"__main__:{name}", "rates": {"": 3e-3}, "weights": {"text": 0.1}, "rows": 512,
        "steps": steps, "warmup": 20, "sources": {"episodes": source}, "log_every": 50, "checkpoint_every": steps,
    }  # fmt: skip
    return train(make_recipe(recipe), out).model


def measure(name, model, episodes):
    """Mean returns of the model, of actions by lot, and of the policy that it learned from."""
    draw = np.random.default_rng(0)

    def answers(games):
        told = [game.said[-(2 * TURNS - 1) :] for game in games]
        replies = model.generate_batch(told, want=["action"], temperature=0.0)
        return [reply.parts[0] for reply in replies]

    return {
        "value": play(WORLDS[name], answers, episodes),
        "baseline": play(WORLDS[name], lambda games: [game.at_random(draw) for game in games], episodes),
        "by hand": play(WORLDS[name], lambda games: [game.by_hand() for game in games], episodes),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the first world only, a few steps, three episodes")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    args = parser.parse_args()
    steps, episodes = (120, 3) if args.quick else (1000, 20)
    figures = {}
    for name in list(WORLDS)[: 1 if args.quick else None]:
        model = learn(name, steps, args.out / f"{name}-{steps}")
        figures[name] = measure(name, model, episodes)
        print(name, figures[name])
    print(json.dumps(figures))
