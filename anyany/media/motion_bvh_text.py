"""The text of a BVH file: a tree of joints, and a table of their channels. Every fault names its line.

pybvh reads the same files, but not those with positions on other joints than the root, and names no line.

Shapes: T frames, C channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from anyany.errors import MediaDecodeError
from anyany.media.limits import Limits
from anyany.media.motion_form import check_frames

CHANNEL = re.compile(r"([XYZ])(position|rotation)", re.IGNORECASE)
Lines = Iterator[tuple[int, list[str]]]


@dataclass
class Joint:
    """One joint, or the end of a limb.

    Attributes:
        name: Empty for the end of a limb.
        parent: Index of the joint above; -1 for the root.
        offset: ``(3,)`` from the parent, at rest.
        channels: Such as ``("X", "position")``, in the order of the table.
    """

    name: str
    parent: int
    offset: npt.NDArray[np.float64] | None = None
    channels: list[tuple[str, str]] = field(default_factory=list)


def parse(text: str, limits: Limits) -> tuple[list[Joint], npt.NDArray[np.float64], float]:
    """Joints depth first, the table ``(T, C)``, and seconds a frame.

    Raises:
        MediaError: The text is no BVH, or is over a limit.
    """
    lines = ((number, words) for number, line in enumerate(text.splitlines(), 1) if (words := line.split()))
    joints = _hierarchy(lines, limits)
    count = int(_stated(lines, "Frames", r"\d{1,12}"))
    check_frames(count, sum(bool(joint.name) for joint in joints), limits)
    seconds = float(_stated(lines, "Frame Time", r"[\d.]+(?:e[-+]?\d+)?"))
    if seconds <= 0 or not count:
        raise MediaDecodeError(
            f"motion: expected frames and a time above 0 in the bvh file, got {count} of {seconds:g} s"
        )
    return joints, _table(lines, count, sum(len(joint.channels) for joint in joints)), seconds


def _hierarchy(lines: Lines, limits: Limits) -> list[Joint]:
    joints: list[Joint] = []
    above: list[int] = []
    for number, words in lines:
        key = words[0].upper()
        if key in ("ROOT", "JOINT", "END"):
            if (key == "ROOT") == bool(joints) or (key != "ROOT" and not above):
                _fault(number, f"{key} stands outside of the only ROOT that a file may have")
            name = " ".join(words[1:]).removesuffix("{").strip() or f"joint{len(joints)}"
            joints.append(Joint("" if key == "END" else name, above[-1] if above else -1))
            above.append(len(joints) - 1)
            check_frames(0, len(joints) // 2, limits)  # each joint may have an end
        elif key == "MOTION":
            if above or not joints:
                _fault(number, "MOTION before the ROOT is closed")
            for joint in joints:
                if joint.offset is None:
                    _fault(number, f"the joint {joint.name or 'at an end'!r} has no OFFSET")
            return joints
        elif key == "}" and above:
            above.pop()
        elif key in ("OFFSET", "CHANNELS") and above:
            joint = joints[above[-1]]
            if key == "OFFSET":
                joint.offset = _numbers(number, words[1:], 3)
            else:
                joint.channels = _channels(number, words[1:], joint)
        elif key not in ("HIERARCHY", "{"):
            _fault(number, f"{words[0][:20]!r} is not expected here")
    raise MediaDecodeError("motion: the bvh file ends before MOTION; it is cut off")


def _channels(number: int, words: list[str], joint: Joint) -> list[tuple[str, str]]:
    found = [match for word in words[1:] if (match := CHANNEL.fullmatch(word))]
    if not words or len(found) != len(words) - 1 or words[0] != str(len(found)):
        _fault(number, "expected CHANNELS, their number, and so many names such as Xposition or Zrotation")
    channels = [(match[1].upper(), match[2].lower()) for match in found]
    if len(set(channels)) < len(channels) or (channels and not joint.name):
        _fault(number, "a channel twice on one joint, or on the end of a limb")
    return channels


def _stated(lines: Lines, name: str, value: str) -> str:
    number, words = next(lines, (0, []))
    match = re.fullmatch(rf"{name}: *({value})", " ".join(words), re.IGNORECASE)
    if match is None:
        _fault(number, f"expected '{name}:' and a number, got {' '.join(words)[:40]!r}")
    return match[1]


def _table(lines: Lines, count: int, width: int) -> npt.NDArray[np.float64]:
    rows: list[npt.NDArray[np.float64]] = []
    for number, words in lines:
        if len(rows) == count:
            _fault(number, f"a row more than the {count} frames that are stated")
        rows.append(_numbers(number, words, width))
    if len(rows) < count:
        raise MediaDecodeError(f"motion: the bvh file states {count} frames and ends after {len(rows)}; it is cut off")
    return np.stack(rows)


def _numbers(number: int, words: list[str], width: int) -> npt.NDArray[np.float64]:
    try:
        values = np.array(words, np.float64)
    except ValueError:
        _fault(number, "holds something that is no number; decimals have a point")
    if len(values) != width or not np.isfinite(values).all():
        _fault(number, f"expected {width} finite numbers, got {len(values)}: {' '.join(words)[:40]!r}")
    return values


def _fault(number: int, text: str) -> NoReturn:
    raise MediaDecodeError(f"motion: line {number} of the bvh file: {text}")
