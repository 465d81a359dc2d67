"""What readers of motion files give, and how much of it is allowed.

Shapes: T frames, J joints.
"""

from __future__ import annotations

from typing import Any

from anyany.errors import MediaTooLargeError
from anyany.media.limits import Limits

Skeleton = tuple[tuple[str, ...], Any, Any, str]
"""Names, parents ``(J,)``, offsets ``(J, 3)``, the axis that points up."""
Decoded = tuple[Any, Any, Skeleton, float]
"""Rotations ``(T, J, 4)``, root ``(T, 3)``, skeleton, fps."""


def check_frames(frames: float, joints: int, limits: Limits) -> None:
    """Refuse a motion that is too long or has too many joints."""
    if not (frames <= limits.motion_frames and joints <= limits.joints):
        raise MediaTooLargeError(
            f"motion: at most {limits.motion_frames} frames of {limits.joints} joints, got {frames:g} of {joints}"
        )
