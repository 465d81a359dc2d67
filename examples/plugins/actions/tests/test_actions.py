"""The plugin keeps the contract of anyany; actions come back from codes; policies by hand do what they are for."""

import numpy as np
import pytest

from anyany.errors import EmptyMediaError, MediaError
from anyany.testing import checks, parametrize
from anyany_actions.codec import BinsCodec
from anyany_actions.media import Action, Observation

SIZES = {
    "actions/numbers": [Observation([0.0, -1e6, 1e6, 0.5])],
    "actions/bins": [Action([-1.0]), Action([0.3]), Action([1.0])],
}
REFUSED = {"actions/numbers": [Observation(np.ones(5))], "actions/bins": [Action([0.1, 0.2]), Action([1.5])]}


@parametrize([check for id in SIZES for check in checks(id, sizes=SIZES[id], refuses=REFUSED[id])])
def test_conforms(check):
    check()


def test_a_choice_comes_back_exactly():
    codec = BinsCodec(low=[0], high=[3], bins=4)
    for choice in range(4):
        codes = codec.encode([codec.prepare(Action([choice]))])
        assert codes.tolist() == [[choice]]
        assert codec.decode(codes) == Action([choice])


def test_numbers_come_back_from_the_middle_of_their_bins():
    codec = BinsCodec(low=[-2, 0], high=[2, 1], bins=21)
    draw = np.random.default_rng(0)
    for values in draw.uniform([-2, 0], [2, 1], (50, 2)):
        again = codec.decode(codec.encode([codec.prepare(Action(values))])).values
        assert (np.abs(again - values) <= np.array([0.1, 0.025]) + 1e-6).all()


@pytest.mark.parametrize("values", [[[0.0]], [np.nan], [np.inf]])
def test_what_is_no_action_says_so(values):
    with pytest.raises(MediaError, match="action: expected"):
        Action(values)
    with pytest.raises(EmptyMediaError, match="at least one number"):
        Action([])


@pytest.mark.parametrize(("name", "least"), [("cartpole", 500), ("pendulum", -400)])
def test_policies_by_hand_are_worth_learning(name, least):
    pytest.importorskip("gymnasium", reason="pip install 'anyany-actions[worlds]'")
    from anyany_actions.worlds import WORLDS, play

    assert play(WORLDS[name], lambda games: [game.by_hand() for game in games], 5) >= least
