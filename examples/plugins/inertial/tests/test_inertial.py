"""The plugin keeps the contract of anyany; readings come back from rows, and from another rate."""

import numpy as np
import pytest

from anyany.errors import EmptyMediaError, MediaError
from anyany.testing import checks, parametrize
from anyany_inertial.codec import PatchCodec
from anyany_inertial.media import Inertial, example

SIZES = [Inertial(np.ones((count, 6)), rate) for count, rate in ((1, 10.0), (7, 3.0), (500, 50.0))]
LONG = Inertial(np.ones((601, 6)), 10.0)


@parametrize([check for id in ("inertial/patch", "inertial/flow") for check in checks(id, sizes=SIZES, refuses=[LONG])])
def test_conforms(check):
    check()


def test_readings_come_back_from_vectors():
    media, codec = example(3), PatchCodec(rate=10.0, patch=5, rows=20)
    again = codec.decode(codec.encode([codec.prepare(media)]))
    np.testing.assert_allclose(again.readings, media.readings, rtol=1e-4, atol=1e-4)
    assert again.rate == 10.0


@pytest.mark.parametrize(("rate", "to"), [(50.0, 10.0), (10.0, 10.0), (7.0, 10.0), (100.0, 30.0)])
def test_another_rate_keeps_the_mean_of_every_second(rate, to):
    draw = np.random.default_rng(0)
    media = Inertial(draw.normal(size=(int(4 * rate), 6)), rate)
    again = media.at(to)
    assert len(again) == 4 * to
    for second in range(4):
        was, now = (x[int(second * r) : int((second + 1) * r)] for x, r in ((media.readings, rate), (again, to)))
        np.testing.assert_allclose(now.mean(axis=0), was.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("readings", "rate", "error"),
    [(np.ones((4, 3)), 10.0, MediaError), (np.ones((0, 6)), 10.0, EmptyMediaError),
     (np.full((4, 6), np.nan), 10.0, MediaError), (np.ones((4, 6)), 0.0, MediaError)],
)  # fmt: skip
def test_what_is_no_recording_says_so(readings, rate, error):
    with pytest.raises(error, match="inertial: expected"):
        Inertial(readings, rate)
