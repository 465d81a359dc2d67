"""BVH files as programs write them, and faults that name their line."""

from __future__ import annotations

import numpy as np
import pytest

from anyany.errors import MediaDecodeError
from anyany.parts import Motion

pytest.importorskip("pybvh")


def turned(sequence: str, angles) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in zip(sequence, np.radians(angles), strict=True):
        i, j = {"X": (1, 2), "Y": (2, 0), "Z": (0, 1)}[axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"])
def test_bvh_euler_orders_and_end_sites(order):
    channels = " ".join(f"{axis}rotation" for axis in order)
    text = f"""HIERARCHY
ROOT hips
{{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition {channels}
  JOINT knee
  {{
    OFFSET 0 -1 0
    CHANNELS 3 {channels}
    End Site
    {{
      OFFSET 0 0 2
    }}
  }}
}}
MOTION
Frames: 2
Frame Time: 0.033333
1 2 3 10 20 30 40 50 60
4 5 6 -70 80 -90 15 25 35
"""
    motion = Motion.from_bytes(b"\xef\xbb\xbf" + text.encode())
    assert motion.fps == 30.0
    assert len(motion.skeleton.names) == 3
    places = motion.positions()
    for frame, (root, hips, knee) in enumerate(
        [((1, 2, 3), (10, 20, 30), (40, 50, 60)), ((4, 5, 6), (-70, 80, -90), (15, 25, 35))]
    ):
        first, second = turned(order, hips), turned(order, knee)
        below = root + first @ [0, -1, 0]
        np.testing.assert_allclose(places[frame], [root, below, below + first @ second @ [0, 0, 2]], atol=1e-4)


BOTH = "Xposition Yposition Zposition Zrotation Xrotation Yrotation"


def limb(knee: str, channels: str, rows: str) -> bytes:
    """A hip with a knee of these channels, whose foot is an End Site."""
    return f"""HIERARCHY
ROOT hip
{{
  OFFSET 0 0 0
  CHANNELS 6 {BOTH}
  JOINT {knee}
  {{
    OFFSET 0 -1 0
    CHANNELS {len(channels.split())} {channels}
    End Site
    {{
      OFFSET 0 -2 0
    }}
  }}
}}
MOTION
Frames: {len(rows.splitlines())}
Frame Time: 0.033333
{rows}
""".encode()


def test_bvh_positions_of_inner_joints_stand_in_place_of_offsets():
    fixed = Motion.from_bytes(limb("knee", BOTH, "0 0 0 0 0 0 0 -3 0 0 90 0\n1 0 0 0 0 0 0 -3 0 0 0 0"))
    np.testing.assert_allclose(fixed.positions()[0], [[0, 0, 0], [0, -3, 0], [0, -3, -2]], atol=1e-5)
    np.testing.assert_allclose(fixed.positions()[1], [[1, 0, 0], [1, -3, 0], [1, -5, 0]], atol=1e-5)
    moving = Motion.from_bytes(limb("knee", BOTH, "0 0 0 0 0 0 0 -2 0 0 0 0\n0 0 0 0 0 0 0 -4 0 0 0 0"))
    np.testing.assert_allclose(moving.skeleton.offsets[1], [0, -3, 0])
    added = Motion.from_bytes(limb("knee", BOTH, "0 0 0 0 0 0 0 0 0 0 0 0"))
    np.testing.assert_allclose(added.skeleton.offsets[1], [0, -1, 0])
    again = Motion.from_bytes(fixed.to_bytes("bvh"))
    np.testing.assert_allclose(again.positions(), fixed.positions(), atol=1e-5)
    assert Motion.from_bytes(again.to_bytes("bvh")) == again


def test_bvh_joints_with_few_channels_and_names_with_blanks():
    hinge = Motion.from_bytes(limb("Left Knee {", "Xrotation", "0 0 0 0 0 0 90"))
    assert hinge.skeleton.names == ("hip", "Left Knee", "EndSiteLeft Knee")
    np.testing.assert_allclose(hinge.positions()[0, 2], [0, -1, -2], atol=1e-5)
    stiff = Motion.from_bytes(limb("knee", "", "0 0 0 0 0 90"))
    np.testing.assert_allclose(stiff.positions()[0, 2], [0, -3, 0], atol=1e-5)
    assert Motion.from_bytes(limb("knee", "", "0 0 0 0 0 90").lower()) == Motion.from_bytes(
        limb("knee", "", "0 0 0 0 0 90").lower().replace(b"hierarchy", b"\xef\xbb\xbf" + b"\n" * 99 + b"HIERARCHY")
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"0 -1 0", b"0 -1", "line 8 .* expected 3 finite numbers, got 2"),
        (b"0 -1 0", b"0 -1,5 0", "line 8 .* no number"),
        (b"0 0 0 0 0 90", b"0 0 0 0 90", "line 19 .* expected 6 finite"),
        (b"0 0 0 0 0 90", b"0 0 0 0 0 nan", "line 19 .* expected 6 finite"),
        (b"0 0 0 0 0 90", b"0 0 0 0 0 90\n1 2 3 4 5 6", "line 20 .* a row more than the 1"),
        (b"0 0 0 0 0 90", b"", "states 1 frames and ends after 0"),
        (b"0.033333", b"0,033333", "line 18 .* expected 'Frame Time:'"),
        (b"0.033333", b"0.0", "a time above 0"),
        (b"JOINT knee", b"ROOT knee", "line 6 .* only ROOT"),
        (b"CHANNELS 6", b"CHANNELS 7", "line 5 .* expected CHANNELS"),
        (b"Yrotation", b"Zrotation", "line 5 .* a channel twice"),
        (b"  }\n}\nMOTION", b"  }\nMOTION", "before the ROOT"),
        (b"    OFFSET 0 -1 0\n", b"", "'knee' has no OFFSET"),
        (b"  JOINT", b"  BONE", "line 6 .* 'BONE' is not expected"),
    ],
)
def test_faults_of_a_bvh_file_name_their_line(old, new, said):
    data = limb("knee", "", "0 0 0 0 0 90")
    assert old in data
    with pytest.raises(MediaDecodeError, match=said):
        Motion.from_bytes(data.replace(old, new))
