"""Which media a file holds, by the suffix of its name."""

from __future__ import annotations

from anyany.parts.audio import Audio
from anyany.parts.base import Media
from anyany.parts.image import Image
from anyany.parts.motion import Motion
from anyany.parts.timeseries import TimeSeries
from anyany.parts.video import Video

SUFFIXES: dict[str, type[Media]] = {
    **dict.fromkeys(("png", "jpg", "jpeg", "webp"), Image),
    **dict.fromkeys(("wav", "flac", "mp3", "ogg", "oga", "opus"), Audio),
    **dict.fromkeys(("mp4", "webm", "gif", "mkv", "mov", "m4v", "avi"), Video),
    **dict.fromkeys(("csv", "parquet"), TimeSeries),
    **dict.fromkeys(("bvh", "glb", "npz"), Motion),
}
"""The media of each suffix, in small letters and without the dot."""


def suffix(name: str) -> str:
    """What stands behind the last dot of a name, in small letters."""
    return name.rpartition(".")[2].lower() if "." in name else ""
