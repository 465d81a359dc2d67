"""How far the joints of a movement are from where they should be.

Shapes: T frames, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from anyany.errors import MediaError
from anyany.media.kinematics import resample
from anyany.parts import Motion
from anyany.plugin import Mean


def joint_error(relative: bool) -> Mean:
    """Mean distance of joints over frames and joints (MPJPE), in units of the skeleton, to the nearest reference.

    Args:
        relative: Places are taken from the root of each frame: the pose counts, not the way through the room.
    """

    def measure(answer: Motion, references: Sequence[Motion], _: object) -> float:
        return min(_error(answer, reference, relative) for reference in references)

    return Mean(measure)


def _error(answer: Motion, reference: Motion, relative: bool) -> float:
    """Compared at the moments of the reference; what the answer has behind its end does not count.

    Raises:
        MediaError: Other joints, or an answer that ends before the reference.
    """
    if answer.skeleton.names != reference.skeleton.names:
        raise MediaError("motion: expected the joints of the reference, by name and order; bring both to one skeleton")
    if answer.skeleton.up != reference.skeleton.up:
        raise MediaError(
            f"motion: expected {reference.skeleton.up!r} up as in the reference, got {answer.skeleton.up!r}"
        )
    made, truth = _at(answer, reference.fps), reference.positions()
    if len(made) < len(truth):
        raise MediaError(
            f"motion: expected at least {reference.seconds:.2f} s as the reference has, got {answer.seconds:.2f} s"
        )
    made = made[: len(truth)]
    if relative:
        made, truth = made - made[:, :1], truth - truth[:, :1]
    return float(np.linalg.norm(made - truth, axis=-1).mean())


def _at(motion: Motion, fps: float) -> npt.NDArray[np.float32]:
    """Places ``(T, J, 3)`` at another frame rate."""
    rotations, root = (motion.rotations, motion.root)
    if motion.fps != fps:
        rotations, root = resample(rotations, root, motion.fps, fps)
    return Motion(rotations, root, motion.skeleton, fps).positions()
