"""The motion plugin keeps the contract."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anyany.errors import MediaError, PluginError
from anyany.media.kinematics import multiply, resample, turn
from anyany.mini import files
from anyany.parts import Audio, Motion, Skeleton
from anyany.plugin.registry import registry
from anyany_motion import body, features
from anyany_motion.rotations import gram_schmidt, joints


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return registry().build(registry().encoder("motion")).eval()


@pytest.fixture
def codec():
    torch.manual_seed(0)
    return registry().build(registry().codec("motion")).eval()


def clip(frames: int = 31, fps: float = 30.0, seed: int = 0, joints: int = 24) -> Motion:
    """An example that is resampled to another rate and length."""
    motion = body.example(seed, body.neutral(joints))
    rotations, root = resample(motion.rotations, motion.root, 15.0, 15.0 * (frames - 1) / 15)
    return Motion(rotations[:frames], root[:frames], motion.skeleton, fps)


def standing_up_along(up: str, motion: Motion) -> Motion:
    """The same motion in a world where another axis points up."""
    half = np.sqrt(0.5)
    level = np.array({"z": [half, half, 0, 0], "x": [half, 0, 0, -half]}[up])
    rotations = motion.rotations.copy()
    rotations[:, 0] = multiply(level, rotations[:, 0])
    return Motion(rotations, turn(level, motion.root), replace(motion.skeleton, up=up), motion.fps)


def test_the_manifest_is_light():
    code = "import anyany_motion, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_declared_equals_produced_and_batch_equals_singles(encoder, codec):
    media = [clip(frames, seed=seed) for seed, frames in enumerate([31, 2, 91, 60])]
    for component, run in ((encoder, encoder), (codec, codec.encode)):
        batch = [component.prepare(m) for m in media]
        assert [p.rows for p in batch] == [4, 1, 10, 6]
        together = run(batch)
        assert together.shape[0] == sum(p.rows for p in batch)
        torch.testing.assert_close(together, torch.cat([run([p]) for p in batch]), rtol=1e-4, atol=1e-5)
        for prepared in batch:
            seconds = prepared.coordinates.values
            assert prepared.coordinates.unit == "seconds"
            np.testing.assert_allclose(seconds[:, 0], np.arange(prepared.rows) / 3)
            assert not seconds[:, 1:].any()


def test_gradients_reach_every_parameter(encoder, codec):
    encoder([encoder.prepare(encoder.example(0))]).square().sum().backward()
    sum(codec.train().loss([codec.prepare(codec.example(0))]).values()).backward()
    for component in (encoder, codec):
        assert all(p.grad is not None and p.grad.any() for p in component.parameters())
        assert sum(p.numel() for p in component.parameters()) < 400_000


def test_what_the_padding_holds_changes_nothing(encoder):
    prepared = encoder.prepare(clip(11))  # six frames: the second row has one
    before = encoder([prepared])
    prepared.arrays["x"][1, features.width(24) :] = 7.0
    torch.testing.assert_close(encoder([prepared]), before)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10**6), st.sampled_from(["y", "z", "x"]))
def test_features_come_back_but_for_place_and_heading(frames, seed, up):
    draw = np.random.default_rng(seed)
    skeleton = body.neutral(6)
    walk = draw.normal(size=(1, 6, 4)) + 0.2 * np.cumsum(draw.normal(size=(frames, 6, 4)), axis=0)
    motion = Motion(walk, np.cumsum(draw.normal(size=(frames, 3)), axis=0), skeleton, features.FPS)
    numbers = features.from_motion(motion if up == "y" else standing_up_along(up, motion), "test", 6, 60)
    again = features.to_motion(numbers, skeleton)
    assert numbers.shape == (frames, 40)
    first = again.rotations[0, 0].astype(float) * [1, -1, -1, -1]
    heading = multiply(motion.rotations[0, 0].astype(float), first)  # from the one start to the other: about y
    assert abs(heading[1]) + abs(heading[3]) < 1e-4
    moved = turn(heading, again.positions() - again.root[:1]) + motion.root[:1]
    np.testing.assert_allclose(moved, motion.positions(), atol=2e-3)
    np.testing.assert_allclose(again.root[:, 1], motion.root[:, 1], atol=1e-4)


@pytest.mark.skipif(not files.available("kaykit"), reason="needs the KayKit clips; point ANYANY_DATA to them")
def test_real_clips_come_back_within_a_ten_thousandth_of_the_body():
    """Joints as the skeleton's fixed bones carry them; offsets and scale that a file animates were left out before."""
    worst = {}
    for name, motion in list(files.movements().items())[::9]:
        rotations, root = resample(motion.rotations, motion.root, motion.fps, features.FPS)
        slow = Motion(rotations, root, motion.skeleton, features.FPS)
        size = features.size(motion.skeleton)
        numbers = features.from_motion(slow, name, 24, 10_000)
        again = features.to_motion(numbers, motion.skeleton)
        first = again.rotations[0, 0].astype(float) * [1, -1, -1, -1]
        heading = multiply(slow.rotations[0, 0].astype(float), first)
        moved = turn(heading, again.positions() - again.root[:1]) + slow.root[:1]
        worst[name] = float(np.abs(moved - slow.positions()).max()) / size
    assert len(worst) > 8
    assert max(worst.values()) < 1e-4, worst


def test_a_decoded_motion_stands_in_the_world_of_its_skeleton():
    motion = clip()
    numbers = features.from_motion(motion, "test", 24, 60)
    upright = features.to_motion(numbers, motion.skeleton).positions()
    leaning = features.to_motion(numbers, replace(motion.skeleton, up="z")).positions()
    np.testing.assert_allclose(leaning[..., [0, 2, 1]] * [1, 1, -1], upright, atol=1e-5)


def test_start_heading_and_size_are_not_seen():
    motion = clip()
    heading = np.array([np.cos(1.0), 0, np.sin(1.0), 0])
    rotations = motion.rotations.copy()
    rotations[:, 0] = multiply(heading, rotations[:, 0])
    large = replace(motion.skeleton, offsets=3 * motion.skeleton.offsets)
    other = Motion(rotations, 3 * turn(heading, motion.root) + [5, 0, -7], large, motion.fps)
    numbers = [features.from_motion(m, "test", 24, 60) for m in (motion, other)]
    np.testing.assert_allclose(numbers[0], numbers[1], atol=1e-3)


@pytest.mark.parametrize("six", [[0.0] * 6, [1, 2, 3, 2, 4, 6], [0, 0, 0, 1, 0, 0], [0, 5, 0, 0, -1, 0], [1e-9] * 6])
def test_six_numbers_that_are_no_rotation_become_one(six):
    values = torch.tensor([six, [1.0, 0, 0, 0, 1, 0]], dtype=torch.float64, requires_grad=True)
    matrices = gram_schmidt(values)
    eye = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    torch.testing.assert_close(matrices @ matrices.transpose(1, 2), eye, rtol=0, atol=1e-9)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(2, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(matrices.square().sum() + matrices[:, 0, 1].sum(), values)
    assert gradient.isfinite().all()


def test_six_numbers_become_rotations_that_move_joints_as_quaternions_do():
    motion = clip()
    numbers = torch.from_numpy(features.from_motion(motion, "test", 24, 60))
    matrices = gram_schmidt(numbers[:, : -features.ROOT].unflatten(1, (-1, 6)))
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3).expand_as(matrices), rtol=0, atol=1e-5)
    places = joints(matrices, motion.skeleton.parents.tolist(), torch.from_numpy(motion.skeleton.offsets))
    again = features.to_motion(numbers.numpy(), motion.skeleton)
    expected = again.positions() - again.root[:, None]
    first = places[0].numpy()  # the heading of the first frame is zero on both ways
    np.testing.assert_allclose(first, expected[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(places.numpy(), axis=-1), np.linalg.norm(expected, axis=-1), atol=1e-5)


def test_any_row_count_decodes_and_bones_keep_their_length(codec):
    for rows in (1, 2, codec.plan().rows):
        motion = codec.decode(3 * torch.randn(rows, codec.latents.dim))
        assert len(motion.rotations) == rows * 5
        assert motion.fps == 15.0
        bones = motion.positions()[:, 1:] - motion.positions()[:, motion.skeleton.parents[1:]]
        lengths = np.linalg.norm(bones, axis=-1)
        np.testing.assert_allclose(lengths, np.broadcast_to(lengths[:1], lengths.shape), atol=1e-5)


def test_the_skeleton_of_the_latest_motion_carries_over(codec):
    latents = torch.randn(3, codec.latents.dim)
    like = replace(clip(), skeleton=replace(body.neutral(), offsets=2 * body.neutral().offsets))
    own, followed = codec.decode(latents), codec.decode(latents, like)
    assert followed.skeleton is like.skeleton
    np.testing.assert_allclose(followed.positions(), 2 * own.positions(), atol=1e-5)
    assert codec.decode(latents, clip(joints=5)).skeleton.names == own.skeleton.names


def test_a_skeleton_may_be_configured():
    config = {
        "names": ["a", "b", "c"],
        "parents": [-1, 0, 1],
        "offsets": [[0, 0, 0], [0, 1, 0], [0, 1, 0]],
        "joints": 3,
    }
    codec = registry().build(registry().codec("motion"), **config)
    motion = codec.decode(codec.encode([codec.prepare(codec.example(0))]))
    assert motion.skeleton.names == ("a", "b", "c")
    with pytest.raises(PluginError, match="24 joints, got 3"):
        registry().build(registry().codec("motion"), **(config | {"joints": 24}))


def test_training_learns_and_gives_latents_of_unit_scale(codec):
    batch = [codec.prepare(codec.example(seed)) for seed in range(8)]
    assert codec.encode(batch).std(dim=0).mean() < 0.5
    codec.train()
    optimiser = torch.optim.AdamW(codec.parameters(), 4e-3)
    losses = []
    for _ in range(80):
        loss = torch.stack(list(codec.loss(batch).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    latents = codec.encode(batch)  # in training, too, what a row becomes does not depend on the others
    torch.testing.assert_close(latents[:4], codec.encode(batch[:1]), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in codec.state_dict().items())
    assert 0.8 < latents.std(dim=0).mean() < 1.2
    assert latents.mean(dim=0).abs().mean() < 0.3  # the running mean lags while the codec learns; unset it is near 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Audio.from_array(np.zeros(8), 8000), "expected a Motion, got Audio"),
        (lambda: clip(joints=7), "expected 24 joints, got 7"),
        (lambda: replace(clip(31), fps=2.0), r"at most (12|5) s, got 15\.50 s"),
    ],
)
def test_media_that_do_not_fit_are_refused(encoder, codec, make, message):
    for component in (encoder, codec):
        with pytest.raises(MediaError, match=message):
            component.prepare(make())


@pytest.mark.parametrize("joints", [1, 3, 24, 30])
def test_other_numbers_of_joints_can_be_configured(joints):
    for spec in (registry().encoder("motion"), registry().codec("motion")):
        component = registry().build(spec, joints=joints)
        assert component.prepare(component.example(0)).arrays["x"].shape[1] == 5 * (6 * joints + 4)


def test_a_skeleton_without_length_has_a_size():
    point = Skeleton(("a",), np.array([-1]), np.zeros((1, 3)))
    numbers = features.from_motion(Motion(np.array([[[1.0, 0, 0, 0]]]), np.zeros((1, 3)), point, 30.0), "test", 1, 9)
    assert np.isfinite(numbers).all()
