"""The joint error: by hand, and over frame rates and lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anyany.errors import MediaError
from anyany.media.kinematics import resample
from anyany.parts import Motion, Skeleton
from anyany.plugin.registry import registry
from anyany_motion import body

ARM = Skeleton(("hips", "elbow", "hand"), np.array([-1, 0, 1]), np.array([[0, 0, 0], [0, 1, 0], [0, 2, 0]]))


def build(name):
    (spec,) = (s for s in registry().metrics if s.id == f"motion/{name}")
    assert not spec.higher_is_better
    return registry().build(spec)


def arm(frames=4, root=(0, 0, 0), turned=False, fps=10.0, skeleton=ARM):
    """An arm that points up, or whose hand points to the side."""
    rotations = np.zeros((frames, 3, 4), np.float32)
    rotations[..., 0] = 1
    if turned:
        rotations[:, 1] = [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]  # a quarter turn about z: up becomes the side
    return Motion(rotations, np.tile(np.array(root, np.float32), (frames, 1)), skeleton, fps)


def test_by_hand():
    moved, turned = arm(root=(3, 4, 0)), arm(turned=True)
    assert build("joint-error").measure(moved, [arm()], ()) == pytest.approx(5.0)
    assert build("pose-error").measure(moved, [arm()], ()) == pytest.approx(0.0, abs=1e-6)
    # The hand stands at (-2, 1) in place of (0, 3), one joint of three.
    assert build("joint-error").measure(turned, [arm()], ()) == pytest.approx(np.sqrt(8) / 3, rel=1e-5)
    assert build("pose-error").measure(turned, [arm(), turned], ()) == pytest.approx(0.0, abs=1e-6)


def test_it_is_the_mean_over_a_loop():
    one, other = (body.example(seed, body.neutral(24)) for seed in (0, 1))
    frames = min(len(one.rotations), len(other.rotations))
    one, other = (replace(m, rotations=m.rotations[:frames], root=m.root[:frames]) for m in (one, other))
    a, b = one.positions(), other.positions()
    slow = np.mean([np.sqrt(((a[t, j] - b[t, j]) ** 2).sum()) for t in range(frames) for j in range(24)])
    assert build("joint-error").measure(one, [other], ()) == pytest.approx(slow, rel=1e-5)


def test_frame_rates_and_what_comes_behind_the_end():
    truth = body.example(0, body.neutral(24))
    fine = Motion(*resample(truth.rotations, truth.root, truth.fps, truth.fps * 3), truth.skeleton, truth.fps * 3)
    assert build("joint-error").measure(fine, [truth], ()) == pytest.approx(0.0, abs=1e-4)
    start = replace(truth, rotations=truth.rotations[:5], root=truth.root[:5])
    assert build("joint-error").measure(truth, [start], ()) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(MediaError, match="expected at least"):
        build("joint-error").measure(start, [truth], ())


def test_other_bodies():
    with pytest.raises(MediaError, match="bring both to one skeleton"):
        build("joint-error").measure(arm(skeleton=replace(ARM, names=("hips", "elbow", "claw"))), [arm()], ())
    with pytest.raises(MediaError, match="expected 'y' up as in the reference, got 'z'"):
        build("joint-error").measure(arm(skeleton=replace(ARM, up="z")), [arm()], ())
