"""Motion whose arrays do not fit, whose archive swells, or whose tree is endless."""

from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest
from hostile import refused

from anyany.errors import MediaTooLargeError
from anyany.parts import Motion, Skeleton

CLIP = Motion(
    np.tile([1.0, 0, 0, 0], (3, 2, 1)), np.zeros((3, 3)),
    Skeleton(("hip", "knee"), np.array([-1, 0]), np.array([[0, 1, 0], [0, -0.5, 0]])), 10.0,
)  # fmt: skip


def npz(**changed: object) -> bytes:
    arrays = dict(np.load(io.BytesIO(CLIP.to_bytes("npz")), allow_pickle=False))
    out = io.BytesIO()
    np.savez(out, **{**arrays, **changed})
    return out.getvalue()


@pytest.mark.parametrize(
    "changed",
    [
        {"names": np.array([{}, 1], dtype=object)}, {"names": np.array(["hip"])}, {"fps": np.array("fast")},
        {"fps": np.array(np.nan)}, {"fps": np.array(0.0)}, {"fps": np.array([1.0, 2.0])}, {"up": np.array("w")},
        {"rotations": np.ones((3, 2, 4), complex)}, {"rotations": np.ones((3, 5, 4))}, {"rotations": np.ones(3)},
        {"rotations": np.array(1.0)}, {"rotations": np.zeros((3, 2, 4))}, {"rotations": np.full((3, 2, 4), np.nan)},
        {"rotations": np.array([["x"]])}, {"root": np.full((3, 3), np.inf)}, {"root": np.zeros((2, 3))},
        {"parents": np.array([-1, 1])}, {"parents": np.array([-1, 9])}, {"parents": np.array([0, 0])},
        {"parents": np.array([-1.5, np.nan])}, {"offsets": np.full((2, 3), np.nan)}, {"offsets": np.zeros((2, 2))},
    ],
    ids=lambda c: str(next(iter(c))),
)  # fmt: skip
def test_arrays_of_a_motion_that_do_not_fit(changed):
    refused(Motion, npz(**changed))


def test_arrays_in_another_order_are_the_same_motion():
    assert Motion.from_bytes(npz(rotations=np.asfortranarray(CLIP.rotations))) == CLIP


def test_a_shape_that_lies_and_an_archive_that_swells():
    whole, out = zipfile.ZipFile(io.BytesIO(CLIP.to_bytes("npz"))), io.BytesIO()
    with zipfile.ZipFile(out, "w") as lying:
        for name in whole.namelist():
            data = whole.read(name)
            if name == "rotations.npy":
                data = data.replace(b"(3, 2, 4), }" + b" " * 11, b"(3000000000, 256, 4), }")
                assert b"3000000000" in data
            lying.writestr(name, data)
    refused(Motion, out.getvalue())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("rotations.npy", bytes(200 << 20))
    assert len(out.getvalue()) < 1_000_000
    refused(Motion, out.getvalue(), MediaTooLargeError)


def test_names_that_climb_out_of_an_archive_write_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../escape.npy", b"x")
        archive.writestr("/absolute.npy", b"x")
    refused(Motion, out.getvalue())
    assert not list(tmp_path.iterdir())
    assert not (tmp_path.parent / "escape.npy").exists()


def bvh(pattern: str, replacement: str) -> bytes:
    text = CLIP.to_bytes("bvh").decode()
    changed, count = re.subn(pattern, replacement, text, count=1, flags=re.DOTALL)
    assert count
    return changed.encode()


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("Frames: 3", "Frames: 1000000000"), ("Frames: 3", "Frames: 2"), ("Frames: 3", "Frames: -3"),
        ("Frames: 3", "Frames: x"), (r"Frame Time: \S+", "Frame Time: 0"), (r"Frame Time: \S+", "Frame Time: -1"),
        (r"Frame Time: \S+", "Frame Time: nan"), (r"Frame Time: \S+", "Frame Time: inf"), ("MOTION.*", ""),
        (r"(Frame Time: \S+\s+)\S+", r"\1nan"), (r"(Frame Time: \S+\s+)\S+", r"\g<1>0,5"),
        ("CHANNELS 6", "CHANNELS 1000000000"),
        ("CHANNELS 6", "CHANNELS -1"), ("OFFSET", "OFFSET nan"),
    ],
)  # fmt: skip
def test_bvh_files_that_lie(pattern, replacement):
    pytest.importorskip("pybvh")
    refused(Motion, bvh(pattern, replacement))


def test_bvh_with_other_line_ends_is_the_same():
    pytest.importorskip("pybvh")
    assert Motion.from_bytes(bvh("$", "").replace(b"\n", b"\r\n")) == Motion.from_bytes(bvh("$", ""))


def test_a_tree_ten_thousand_joints_deep_ends_in_an_error():
    pytest.importorskip("pybvh")
    joint = "JOINT j{}\n{{\nOFFSET 0 1 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    root = (
        "HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n"
    )
    deep = root + "".join(joint.format(i) for i in range(10_000)) + "End Site\n{\nOFFSET 0 0 0\n}\n" + "}\n" * 10_001
    refused(Motion, f"{deep}MOTION\nFrames: 1\nFrame Time: 0.1\n{'0 ' * 30_006}\n".encode(), MediaTooLargeError)
