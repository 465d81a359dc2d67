"""Motion files: glTF and BVH in and out, and files that are not what they claim to be."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaError, MediaTooLargeError, UnsupportedMediaError
from anyany.media import kinematics
from anyany.media.limits import Limits
from anyany.media.motion import clips, decode
from anyany.parts import Motion, Skeleton

pygltflib = pytest.importorskip("pygltflib")
pytest.importorskip("pybvh")

DATA = Path(os.environ.get("ANYANY_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILES = sorted(DATA.glob("kaykit/*.glb"))
kaykit = pytest.mark.skipif(not FILES, reason="the KayKit clips are neither in $ANYANY_DATA nor beside the checkout")


def dancer(frames: int = 20, fps: float = 30.0, up: str = "y", seed: int = 0) -> Motion:
    """Smooth random turns of a small tree whose joints stand depth first."""
    draw = np.random.default_rng(seed)
    skeleton = Skeleton(
        ("hips", "back", "head", "left leg", "left foot", "right leg"), np.array([-1, 0, 1, 0, 3, 0]),
        draw.normal(size=(6, 3)), up,
    )  # fmt: skip
    vectors = draw.normal(size=(1, 6, 4)) + 0.1 * np.cumsum(draw.normal(size=(frames, 6, 4)), axis=0)
    return Motion(vectors, np.cumsum(draw.normal(size=(frames, 3)), axis=0), skeleton, fps)


def same_turns(a, b, tolerance=1e-4):
    sign = np.sign((a * b).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(a, b * sign, atol=tolerance)


def glb(document: dict, blob: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def document(arrays: list[tuple[np.ndarray, str]], nodes: list[dict], channels: list[tuple], rule="LINEAR"):
    """A file with one clip. ``channels``: (node, path, accessor of times, accessor of values)."""
    views, accessors, blob = [], [], b""
    kinds = {np.dtype("f4"): 5126, np.dtype("i2"): 5122}
    for array, kind in arrays:
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": array.nbytes})
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": kinds[array.dtype], "count": len(array), "type": kind}
        )
        blob += array.tobytes() + bytes(-array.nbytes % 4)
    samplers = [{"input": c[2], "output": c[3], "interpolation": rule} for c in channels]
    targets = [{"sampler": i, "target": {"node": c[0], "path": c[1]}} for i, c in enumerate(channels)]
    return {
        "asset": {"version": "2.0"}, "nodes": nodes, "bufferViews": views, "accessors": accessors,
        "buffers": [{"byteLength": len(blob)}], "animations": [{"channels": targets, "samplers": samplers}],
    }, blob  # fmt: skip


def one_joint(times, values, path="rotation", rule="LINEAR", nodes=None):
    arrays = [(np.array(times, "f4"), "SCALAR"), (np.array(values), "VEC4" if path == "rotation" else "VEC3")]
    return document(arrays, nodes or [{"name": "a"}], [(0, path, 0, 1)], rule)


QUARTER = np.array([[0, 0, 0, 1], [0, np.sqrt(0.5), 0, np.sqrt(0.5)]], "f4")  # (x, y, z, w), about y


@pytest.mark.parametrize("fps", [30.0, 15.0, 24.0])
@pytest.mark.parametrize("frames", [1, 2, 20])
def test_glb_round_trip(fps, frames):
    motion = dancer(frames, fps)
    again = Motion.from_bytes(motion.to_bytes("glb"))
    assert again.fps == fps
    assert again.skeleton.names == motion.skeleton.names
    np.testing.assert_array_equal(again.skeleton.parents, motion.skeleton.parents)
    np.testing.assert_allclose(again.skeleton.offsets, motion.skeleton.offsets, atol=1e-6)
    same_turns(again.rotations, motion.rotations)
    np.testing.assert_allclose(again.root, motion.root, atol=1e-4)


@pytest.mark.parametrize("fps", [30.0, 24.0])
def test_bvh_round_trip(fps):
    motion = dancer(20, fps)
    again = Motion.from_bytes(motion.to_bytes("bvh"))
    assert again.fps == pytest.approx(fps)
    assert again.skeleton.names == ("hips", "back", "head", "left_leg", "left_foot", "right_leg")
    np.testing.assert_array_equal(again.skeleton.parents, motion.skeleton.parents)
    same_turns(again.rotations, motion.rotations)
    np.testing.assert_allclose(again.positions(), motion.positions(), atol=1e-4)


def test_bvh_brings_joints_into_depth_first_order():
    motion = dancer(3)
    order = [0, 3, 1, 5, 4, 2]  # breadth first: the parents still stand before their children
    parents = np.array([-1, 0, 0, 0, 1, 2])
    names, offsets = np.array(motion.skeleton.names)[order], motion.skeleton.offsets[order]
    mixed = Motion(motion.rotations[:, order], motion.root, Skeleton(tuple(names), parents, offsets), 30.0)
    again = Motion.from_bytes(mixed.to_bytes("bvh"))
    places = dict(zip(again.skeleton.names, again.positions().swapaxes(0, 1), strict=True))
    for name, expected in zip(names, mixed.positions().swapaxes(0, 1), strict=True):
        np.testing.assert_allclose(places[name.replace(" ", "_")], expected, atol=1e-4)


@pytest.mark.parametrize("format", ["glb", "bvh"])
@pytest.mark.parametrize(("up", "axes", "signs"), [("z", [0, 2, 1], [1, 1, -1]), ("x", [1, 0, 2], [-1, 1, 1])])
def test_formats_whose_y_is_up_get_motion_that_stands(format, up, axes, signs):
    motion = dancer(up=up)
    again = Motion.from_bytes(motion.to_bytes(format))
    assert again.skeleton.up == "y"
    np.testing.assert_allclose(again.positions(), motion.positions()[..., axes] * np.array(signs), atol=1e-4)


def test_another_reader_opens_the_glb_file():
    motion = dancer()
    file = pygltflib.GLTF2.load_from_bytes(motion.to_bytes("glb"))
    assert [node.name for node in file.nodes] == list(motion.skeleton.names)
    assert len(file.animations[0].channels) == len(motion.skeleton.names) + 1
    times = file.accessors[file.animations[0].samplers[0].input]
    assert times.min == [0.0]
    assert times.max == pytest.approx([19 / 30])
    assert file.buffers[0].byteLength == len(file.binary_blob())


@pytest.mark.parametrize(
    ("rule", "values", "middle"),
    [
        ("LINEAR", QUARTER, np.pi / 4),
        ("STEP", QUARTER, 0.0),
        ("CUBICSPLINE", np.stack([QUARTER * 0, QUARTER, QUARTER * 0], axis=1).reshape(-1, 4), np.pi / 4),
        ("LINEAR", np.round(QUARTER * 32767).astype("i2"), np.pi / 4),
        ("LINEAR", QUARTER * np.array([[1], [-1]], "f4"), np.pi / 4),  # the shorter way round
    ],
)
def test_interpolation_of_rotations(rule, values, middle):
    file, blob = one_joint([1.0, 2.0], values, rule=rule)
    file["accessors"][1]["normalized"] = True
    motion = Motion.from_bytes(glb(file, blob))
    assert motion.rotations.shape == (31, 1, 4)
    w, _, y, _ = motion.rotations[15, 0]
    assert 2 * np.arctan2(y, w) == pytest.approx(middle, abs=1e-3)
    w, _, y, _ = motion.rotations[30, 0] * np.sign(motion.rotations[30, 0, 0])
    assert 2 * np.arctan2(y, w) == pytest.approx(np.pi / 2, abs=1e-3)


def test_cubic_tangents_of_a_path():
    keys = np.zeros((2, 3, 3), "f4")
    keys[0, 2, 0], keys[1, 0, 0], keys[1, 1, 0] = 3.0, 0.0, 1.0  # out-tangent, in-tangent, value
    file, blob = one_joint([0.0, 2.0], keys.reshape(-1, 3), "translation", "CUBICSPLINE")
    t = np.arange(61) / 60
    expected = (t**3 - 2 * t**2 + t) * 2 * 3.0 + (3 * t**2 - 2 * t**3) * 1.0
    np.testing.assert_allclose(Motion.from_bytes(glb(file, blob)).root[:, 0], expected, atol=1e-5)


def test_scale_and_matrix_of_a_node_stretch_what_hangs_on_it():
    matrix = [0, 0, -2, 0, 0, 2, 0, 0, 2, 0, 0, 0, 5, 6, 7, 1]  # twice as large, a quarter turn about y, at (5, 6, 7)
    nodes = [{"children": [1]}, {"matrix": matrix, "children": [2]}, {"translation": [1, 0, 0]}]
    arrays = [(np.array([0.0], "f4"), "SCALAR"), (QUARTER[:1], "VEC4")]
    motion = Motion.from_bytes(glb(*document(arrays, nodes, [(2, "rotation", 0, 1)])))
    np.testing.assert_allclose(motion.positions()[0], [[0, 0, 0], [5, 6, 7], [5, 6, 5]], atol=1e-6)


def test_a_moving_trunk_becomes_the_root():
    nodes = [
        {"name": "rig", "children": [1], "rotation": QUARTER[1].tolist()},
        {"name": "hips", "translation": [0, 1, 0], "children": [2, 3]},
        {"name": "left", "translation": [1, 0, 0]}, {"name": "right", "translation": [-1, 0, 0]},
    ]  # fmt: skip
    path = np.array([[0, 1, 0], [0, 1, 30]], "f4")
    arrays = [(np.array([0, 1], "f4"), "SCALAR"), (path, "VEC3")]
    file, blob = document(arrays, nodes, [(1, "translation", 0, 1)])
    motion = Motion.from_bytes(glb(file | {"skins": [{"joints": [1, 2, 3]}]}, blob))
    np.testing.assert_allclose(motion.root[10], [10, 1, 0], atol=1e-5)
    np.testing.assert_allclose(motion.positions()[10], [[10, 1, 0], [10, 1, 0], [10, 1, -1], [10, 1, 1]], atol=1e-5)


def test_clips_are_named_and_chosen():
    motion = dancer()
    file = pygltflib.GLTF2.load_from_bytes(motion.to_bytes("glb"))
    file.animations = [*file.animations, *pygltflib.GLTF2.load_from_bytes(motion.to_bytes("glb")).animations]
    file.animations[0].name, file.animations[1].name = "Rig|walk", "Rig|run"
    data = b"".join(file.save_to_bytes())
    assert clips(data) == ("walk", "run")
    assert clips(motion.to_bytes("bvh")) == ()
    same_turns(Motion.from_bytes(data, clip="run").rotations, motion.rotations)
    with pytest.raises(MediaDecodeError, match="walk, run"):
        Motion.from_bytes(data)
    with pytest.raises(MediaDecodeError, match=r"'fly'.*walk, run"):
        Motion.from_bytes(data, clip="fly")
    with pytest.raises(MediaDecodeError, match="leave out"):
        Motion.from_bytes(motion.to_bytes("npz"), clip="walk")


def broken(change) -> bytes:
    file, blob = one_joint([0.0, 1.0], QUARTER)
    return glb(file, change(file, blob) or blob)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f, b: f["buffers"][0].update(uri="secret.bin"), UnsupportedMediaError, "uri"),
        (lambda f, b: f.update(images=[{"uri": "secret.png"}]), UnsupportedMediaError, "uri"),
        (lambda f, b: f["buffers"][0].update(uri="data:;base64,AAAA"), UnsupportedMediaError, "uri"),
        (lambda f, b: f.update(animations=[]), EmptyMediaError, "animation"),
        (lambda f, b: f["accessors"][1].update(count=30_000), MediaDecodeError, "reaches byte"),
        (lambda f, b: f["accessors"][1].update(count=-1), MediaDecodeError, "malformed"),
        (lambda f, b: f["accessors"][1].update(count=10**9), MediaTooLargeError, "keys"),
        (lambda f, b: f["accessors"][1].update(byteOffset=-16), MediaDecodeError, "malformed"),
        (lambda f, b: f["accessors"][1].update(count=1), MediaDecodeError, "finite numbers"),
        (lambda f, b: f["accessors"][1].update(sparse={"count": 1}), UnsupportedMediaError, "dense"),
        (lambda f, b: f["bufferViews"][1].update(byteLength=8), MediaDecodeError, "reaches byte"),
        (lambda f, b: f["bufferViews"][1].update(buffer=1), MediaDecodeError, "malformed"),
        (lambda f, b: f["animations"][0]["samplers"][0].update(interpolation="MAGIC"), UnsupportedMediaError, "MAGIC"),
        (
            lambda f, b: f["animations"][0]["channels"].append(f["animations"][0]["channels"][0]),
            MediaDecodeError,
            "two",
        ),
        (lambda f, b: f["nodes"][0].update(children=[0]), UnsupportedMediaError, "one animated skeleton"),
        (lambda f, b: f.update(nodes=[{}, {}], skins=[{"joints": [1]}]), UnsupportedMediaError, "found 2"),
        (lambda f, b: f["animations"][0]["channels"][0]["target"].update(node=7), MediaDecodeError, "damaged"),
        (lambda f, b: np.array([0, 3600], "f4").tobytes() + b[8:], MediaTooLargeError, "108001"),
        (lambda f, b: np.array([1, 0], "f4").tobytes() + b[8:], MediaDecodeError, "rise"),
        (lambda f, b: np.array([0, np.nan], "f4").tobytes() + b[8:], MediaDecodeError, "rise"),
        (lambda f, b: b[:8] + bytes(32), MediaError, "not zero|damaged"),
        (lambda f, b: b[:-4], MediaDecodeError, "reaches byte"),
    ],
)
def test_glb_files_that_lie(change, error, message):
    assert len(Motion.from_bytes(broken(lambda f, b: None)).rotations) == 31
    with np.errstate(invalid="ignore"), pytest.raises(error, match=message):
        Motion.from_bytes(broken(change))


def test_limits_hold_for_every_format():
    motion = dancer()
    for format in Motion.formats:
        for limits in (Limits(motion_frames=10), Limits(joints=5), Limits(bytes=100)):
            with pytest.raises(MediaTooLargeError):
                decode(motion.to_bytes(format), limits=limits)


WHOLE = [dancer(4).to_bytes(format) for format in Motion.formats]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8), st.floats(0, 1))
def test_damaged_files_raise_nothing_but_media_errors(data, changes, kept):
    damaged = bytearray(data[: max(16, int(len(data) * kept))])
    for where, value in changes:
        damaged[min(int(where * len(damaged)), len(damaged) - 1)] = value
    try:
        motion = Motion.from_bytes(bytes(damaged))
    except MediaError:
        return
    assert np.isfinite(motion.positions()).all() or np.abs(motion.skeleton.offsets).max() > 1e30


@pytest.mark.slow
@kaykit
def test_every_kaykit_clip_is_read_and_stays_near_the_file():
    errors, keys, count = {}, set(), 0
    for file in FILES:
        source = pygltflib.GLTF2.load_from_bytes(file.read_bytes())
        for clip, animation in zip(Motion.clips(file), source.animations, strict=True):
            motion = Motion.open(file, clip=clip)
            count += 1
            keys.add(motion.skeleton.key())
            expected = places_of(source, animation, motion.skeleton.names, len(motion.rotations))
            height = 1.24  # of the body at rest, in units of the model
            body = motion.positions()[:, 2:] - expected[:, 2:]  # without the two nodes that hold the body
            errors[clip] = float(np.linalg.norm(body, axis=-1).mean()) / height
    assert count == 110
    assert len(keys) == 1
    for clip, error in sorted(errors.items(), key=lambda item: -item[1]):
        print(f"{clip:36} {100 * error:6.2f} % of the height")
    values = np.array(list(errors.values()))
    print(f"mean {100 * values.mean():.2f} %, median {100 * np.median(values):.2f} %")
    assert np.median(values) < 0.02
    assert values.mean() < 0.05  # skeletons that fall apart, and bodies that grow, are what a Motion cannot hold


def places_of(source, animation, names, frames):
    """World places ``(T, J, 3)`` by 4 x 4 matrices of everything the file animates, scale too."""
    blob = source.binary_blob()

    def numbers(index):
        item = source.accessors[index]
        view, width = source.bufferViews[item.bufferView], {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[item.type]
        start = (view.byteOffset or 0) + (item.byteOffset or 0)
        return np.frombuffer(blob, "<f4", item.count * width, start).reshape(-1, width)

    above = {child: i for i, node in enumerate(source.nodes) for child in node.children}
    moved = {(c.target.node, c.target.path): animation.samplers[c.sampler] for c in animation.channels}
    start = min(numbers(s.input)[0, 0] for s in moved.values())
    times, world = start + np.arange(frames) / 30, {}

    def value(node, path, rest):
        if (node, path) not in moved:
            return np.tile(rest, (frames, 1))
        at, values = numbers(moved[node, path].input)[:, 0], numbers(moved[node, path].output).astype(float)
        if path == "rotation":
            for k in range(1, len(values)):
                values[k] *= np.sign(values[k] @ values[k - 1]) or 1
        return np.stack([np.interp(times, at, column) for column in values.T], axis=1)

    def place(node):
        if node not in world:
            item = source.nodes[node]
            x, y, z, w = value(node, "rotation", item.rotation or [0, 0, 0, 1]).T
            n = x * x + y * y + z * z + w * w
            turn = np.array([
                [n - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), n - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), n - 2 * (x * x + y * y)],
            ]) / n  # fmt: skip
            local = np.tile(np.eye(4), (frames, 1, 1))
            local[:, :3, :3] = turn.transpose(2, 0, 1) * value(node, "scale", item.scale or [1, 1, 1])[:, None]
            local[:, :3, 3] = value(node, "translation", item.translation or [0, 0, 0])
            world[node] = place(above[node]) @ local if node in above else local
        return world[node]

    index = {node.name: i for i, node in enumerate(source.nodes)}
    return np.stack([place(index[name])[:, :3, 3] for name in names], axis=1)


@kaykit
def test_kaykit_survives_every_format():
    motion = Motion.open(FILES[0], clip=Motion.clips(FILES[0])[0])
    for format in Motion.formats:
        again = Motion.from_bytes(motion.to_bytes(format))
        np.testing.assert_allclose(again.positions(), motion.positions(), atol=1e-4)


@pytest.mark.parametrize("frames", [1, 12, 400])
def test_the_animation_plays(frames):
    from PIL import Image as Pillow

    motion = dancer(frames)
    picture = Pillow.open(io.BytesIO(motion.animation()))
    assert picture.format == "WEBP"
    assert getattr(picture, "n_frames", 1) == min(frames, 60)
    assert "data:image/webp;base64," in motion._repr_html_()
    if frames == 400:
        pictures = []
        for index in (0, 30):
            picture.seek(index)
            pictures.append(np.asarray(picture.convert("L")))
        assert (pictures[0] < 128).any()
        assert (pictures[0] != pictures[1]).any()


@given(st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_quaternions_and_matrices_agree(seed):
    draw = np.random.default_rng(seed)
    q = draw.normal(size=(5, 4)) * draw.choice([0.0, 1e-4, 1.0], size=(5, 4)) + [1e-9, 0, 0, 0]
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    same_turns(kinematics.from_matrix(kinematics.to_matrix(q)), q, 1e-6)
    v = draw.normal(size=(5, 3))
    np.testing.assert_allclose(np.einsum("nij,nj->ni", kinematics.to_matrix(q), v), kinematics.turn(q, v), atol=1e-9)


def test_resampling_keeps_times():
    motion = dancer(31, 30.0)
    rotations, root = kinematics.resample(motion.rotations, motion.root, 30.0, 15.0)
    same_turns(rotations, motion.rotations[::2])
    np.testing.assert_allclose(root, motion.root[::2], atol=1e-6)
    rotations, root = kinematics.resample(motion.rotations, motion.root, 30.0, 60.0)
    assert len(root) == 61
    same_turns(rotations[::2], motion.rotations)
    np.testing.assert_allclose(root[1], (motion.root[0] + motion.root[1]) / 2, atol=1e-6)
    assert len(kinematics.resample(motion.rotations[:1], motion.root[:1], 30.0, 15.0)[0]) == 1


def test_an_unknown_format_or_axis_is_named():
    with pytest.raises(UnsupportedMediaError, match="npz, bvh, glb"):
        dancer().to_bytes("fbx")
    with pytest.raises(MediaError, match="up to be x, y or z"):
        dancer(up="w")
