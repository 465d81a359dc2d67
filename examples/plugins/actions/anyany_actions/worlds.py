"""Worlds of Gymnasium (arXiv 2407.17032), a policy by hand for each, and the loop that plays them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyany.errors import MissingPackageError
from anyany.parts import Message
from anyany_actions.media import Action, Observation


@dataclass(frozen=True)
class World:
    """A world to act in.

    Attributes:
        id: Of Gymnasium.
        scale: What brings the numbers of an observation to about -1 to 1.
        low: Least number of an action.
        high: Largest.
        bins: Of an action.
        policy: The numbers of an observation -> that of an action, by hand.
    """

    id: str
    scale: tuple[float, ...]
    low: float
    high: float
    bins: int
    policy: Callable[..., float]

    @property
    def encoder(self) -> dict[str, Any]:
        """What a model that acts here is composed of."""
        return {"id": "actions/numbers", "config": {"numbers": len(self.scale), "scale": list(self.scale)}}

    @property
    def decoder(self) -> dict[str, Any]:
        """The same for its actions."""
        return {"id": "actions/bins", "config": {"low": [self.low], "high": [self.high], "bins": self.bins}}


def balance(place: float, speed: float, angle: float, turning: float) -> float:
    """Push the cart under the pole: 500 of 500 steps."""
    return float(angle + 0.3 * turning + 0.02 * place + 0.08 * speed > 0)


def swing(cosine: float, sine: float, turning: float) -> float:
    """Feed the pendulum energy until it is nearly up, then hold it there."""
    if cosine > 0.8:
        return float(np.clip(-16 * np.arctan2(sine, cosine) - 3 * turning, -2, 2))
    lacking = 5 * (1 - cosine) - turning**2 / 6
    return float(np.clip(2 * lacking * (1 if turning >= 0 else -1), -2, 2))


WORLDS = {
    "cartpole": World("CartPole-v1", (0.5, 0.5, 4.0, 0.5), 0, 1, 2, balance),
    "pendulum": World("Pendulum-v1", (1.0, 1.0, 0.2), -2, 2, 21, swing),
}


class Game:
    """One episode, and the conversation so far.

    Args:
        world: Where.
        seed: Of how it begins.

    Raises:
        MissingPackageError: Gymnasium is not installed.
    """

    def __init__(self, world: World, seed: int) -> None:
        try:
            import gymnasium
        except ImportError:
            raise MissingPackageError(
                "actions: Gymnasium is needed. Try: pip install 'anyany-actions[worlds]'"
            ) from None
        self.world, self.total, self.over = world, 0.0, False
        self.env = gymnasium.make(world.id, disable_env_checker=True)
        self.state, _ = self.env.reset(seed=seed)
        self.said = [self._seen()]

    def _seen(self) -> Message:
        return Message("user", (Observation(self.state),))

    def do(self, action: Action) -> None:
        """One step."""
        choice = self.world.bins == self.world.high - self.world.low + 1
        given = int(action.values[0]) if choice else action.values
        self.state, reward, ended, late, _ = self.env.step(given)
        self.total, self.over = self.total + float(reward), ended or late
        self.said += [Message("assistant", (action,)), self._seen()]

    def by_hand(self) -> Action:
        """What the policy would do now."""
        return Action([self.world.policy(*self.state)])

    def at_random(self, draw: np.random.Generator) -> Action:
        """Any action."""
        return Action([draw.choice(np.linspace(self.world.low, self.world.high, self.world.bins))])


def play(world: World, decide: Callable[[Sequence[Game]], Sequence[Action]], episodes: int) -> float:
    """Mean return of episodes that are played side by side; ``decide`` gives an action for each that is not over."""
    games = [Game(world, seed) for seed in range(episodes)]
    while live := [game for game in games if not game.over]:
        for game, action in zip(live, decide(live), strict=True):
            game.do(action)
    return float(np.mean([game.total for game in games]))
