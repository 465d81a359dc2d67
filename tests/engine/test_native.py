"""Whole replies by the native library and by PyTorch: the same tokens, codes and vectors, whatever the engine does."""

from __future__ import annotations

import numpy as np
import pytest
from imu_plugin import Imu

from anyany.backbone import native
from anyany.native import library

pytestmark = pytest.mark.skipif(library() is None, reason="no native library")

IMU = Imu(np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]], np.float32))
OPTIONS = {
    "greedy": {"temperature": 0.0},
    "drawn": {"temperature": 0.8, "top_p": 0.9},
    "guided": {"guidance": {"imu": 2.0}},  # a branch that is forked, and joined again
}
PROMPTS = ["hello", ["what is", IMU, "this?"], "one two three four " * 12]


@pytest.fixture
def passes(monkeypatch) -> list:
    made, call = [], native.Ready.__call__
    monkeypatch.setattr(native.Ready, "__call__", lambda self, *a: made.append(len(a[0])) or call(self, *a))
    return made


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["codes", "books", "regression", "flow", "flow-span"])
def test_replies_are_those_of_pytorch(make_model, same, monkeypatch, passes, kind, options):
    model = make_model(kind=kind).eval()

    def replies() -> list:
        asked = {"want": ["text", "imu", "text"], "max_new_tokens": 5, **OPTIONS[options]}
        return model.generate_batch(PROMPTS, seed=3, **asked)

    mine = replies()
    assert max(passes) > len(PROMPTS) - 1
    passes.clear()
    monkeypatch.setenv("ANYANY_NATIVE", "0")
    for reply, expected in zip(mine, replies(), strict=True):
        same(reply.parts, expected.parts)
    assert not passes


def test_a_small_cache_that_is_compacted(make_model, monkeypatch, passes):
    """Runs that grow, move and are freed: addresses are taken anew in each pass."""
    model = make_model(kind="codes").eval()
    options = {"want": ["text"], "max_new_tokens": 90, "temperature": 0.0, "cache_rows": 330, "max_live": 3}
    mine = [reply.text for reply in model.generate_batch(PROMPTS * 2, **options)]
    assert passes
    monkeypatch.setenv("ANYANY_NATIVE", "0")
    assert mine == [reply.text for reply in model.generate_batch(PROMPTS * 2, **options)]
