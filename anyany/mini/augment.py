"""Real items, seen a little differently each time. Everything random comes from the generator passed in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anyany.media.packages import need
from anyany.mini.words import DIRECTIONS
from anyany.parts import Audio, Image, Motion, Video

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

FRAMES, SIDE, STEP_FPS = 8, 32, 8.0
Pillow = need("PIL.Image", "pillow")


def picture(draw: np.random.Generator, digit: npt.NDArray[np.uint8]) -> Image:
    """``(28, 28)`` turned, scaled, sheared and shifted; sometimes as coarse as 8 x 8 pixels."""
    angle, shear = draw.uniform(-0.2, 0.2), draw.uniform(-0.15, 0.15)
    sx, sy = draw.uniform(0.85, 1.2, 2)
    dx, dy = draw.uniform(-2, 2, 2)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos * sx, (-sin + shear) * sx], [sin * sy, cos * sy]])
    offset = 13.5 - matrix @ np.array([13.5 + dx, 13.5 + dy])
    picture = Pillow.fromarray(digit).transform(
        (28, 28), Pillow.Transform.AFFINE,
        (matrix[0, 0], matrix[0, 1], offset[0], matrix[1, 0], matrix[1, 1], offset[1]), Pillow.Resampling.BILINEAR,
    )  # fmt: skip
    if draw.random() < 0.15:
        picture = coarse(draw, picture)
    return Image.from_array(np.asarray(picture))


def coarse(draw: np.random.Generator, picture: PILImage) -> PILImage:
    """The middle of a picture at 8 x 8 pixels, brought back to size, as small scans look."""
    inset = int(draw.integers(3, 6))
    box = (inset, inset, 28 - inset, 28 - inset)
    small = picture.resize((8, 8), Pillow.Resampling.BOX, box=box)
    return small.resize((28, 28), Pillow.Resampling.BICUBIC)


def pitch(audio: Audio, speed: float) -> Audio:
    """Played faster, and so higher, by ``speed``."""
    samples = audio.mono()
    at = np.arange(0, len(samples) - 1, speed)
    return Audio.from_array(np.interp(at, np.arange(len(samples)), samples).astype(np.float32), audio.rate)


def speech(draw: np.random.Generator, audio: Audio) -> Audio:
    """Faster or slower, in noise of any loudness, with silence around it."""
    samples, rate = pitch(audio, draw.uniform(0.82, 1.22)).mono(), audio.rate
    before, after = (draw.uniform(0, 0.15, 2) * rate).astype(int) * (draw.random() < 0.5)
    samples = np.pad(samples, (before, after))
    level = np.sqrt((samples**2).mean()) * 10 ** draw.uniform(-3.0, -0.7)
    samples = samples + draw.normal(0, level, len(samples))
    tilt = draw.uniform(-0.4, 0.4)  # a brighter or a duller microphone
    samples = samples + tilt * np.concatenate([[0.0], samples[:-1]])
    return Audio.from_array(samples.astype(np.float32), rate)


def clip(draw: np.random.Generator, digit: npt.NDArray[np.uint8], direction: str) -> Video:
    """A digit that crosses a dark picture, faster or slower, at some distance from its middle line."""
    small = np.asarray(Pillow.fromarray(digit[3:25, 3:25]).resize((18, 18), Pillow.Resampling.BILINEAR))
    room = SIDE - 18
    step = np.array(DIRECTIONS[direction])
    reach = draw.uniform(0.6, 1.0) * room
    start = np.where(step == 0, draw.uniform(0, room, 2), np.where(step > 0, 0.0, room))
    start = start + step * draw.uniform(0, room - reach)
    frames = np.zeros((FRAMES, SIDE, SIDE), np.uint8)
    for t, frame in enumerate(frames):
        y, x = np.round(start + step * reach * t / (FRAMES - 1)).astype(int).clip(0, room)
        frame[y : y + 18, x : x + 18] = small
    return Video.from_frames(frames, STEP_FPS)


def movement(draw: np.random.Generator, motion: Motion, *, least: float = 0.6) -> Motion:
    """A stretch of a clip, faster or slower, perhaps seen in a mirror."""
    count = len(motion.rotations)
    length = max(min(count, 8), round(count * draw.uniform(least, 1.0)))
    start = int(draw.integers(0, count - length + 1))
    motion = replace(
        motion, rotations=motion.rotations[start : start + length], root=motion.root[start : start + length],
        fps=motion.fps * draw.uniform(0.85, 1.15),
    )  # fmt: skip
    return mirror(motion) if draw.random() < 0.5 else motion


def mirror(motion: Motion) -> Motion:
    """Left and right exchanged: joints whose names end in ``.l`` and ``.r`` (or ``_l``, ``_r``) swap places."""
    names = motion.skeleton.names
    other = {"l": "r", "r": "l"}
    index = {name: i for i, name in enumerate(names)}
    swap = [
        index.get(name[:-1] + other[name[-1]], i) if name[-2:-1] in (".", "_") and name[-1] in other else i
        for i, name in enumerate(names)
    ]
    rotations = motion.rotations[:, swap] * np.array([1, 1, -1, -1], np.float32)
    return replace(motion, rotations=rotations, root=motion.root * np.array([-1, 1, 1], np.float32))
