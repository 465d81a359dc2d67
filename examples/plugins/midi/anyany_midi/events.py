"""Notes <-> rows of three numbers: pitch, step from the start of the note before, length; the latter in sixteenths."""

from __future__ import annotations

import numpy as np

from anyany.errors import MediaError
from anyany.parts import Media
from anyany_midi.media import TEMPO, Notes

STEPS = 4  # of a beat
VOCAB = 128  # pitches; steps from 0 on, lengths from 1 on: eight bars of four beats


def to_events(media: Media, most: int) -> np.ndarray:
    """``(N, 3)`` int64, all from 0 to 127; starts and lengths go to the nearest sixteenth.

    Raises:
        MediaError: No notes, more than ``most``, or a pause or a note of more than eight bars.
    """
    if not isinstance(media, Notes):
        raise MediaError(f"midi: expected Notes, got {type(media).__name__}")
    if len(media.notes) > most:
        raise MediaError(f"midi: at most {most} notes, got {len(media.notes)}; cut it")
    starts = np.rint(media.notes[:, 1] * STEPS)
    lengths = np.rint(media.notes[:, 2] * STEPS).clip(min=1)
    events = np.column_stack([media.notes[:, 0], np.diff(starts, prepend=0), lengths - 1])
    if (longest := int(events[:, 1:].max())) >= VOCAB:
        raise MediaError(f"midi: at most {VOCAB - 1} sixteenths from note to note and in one, got {longest}; cut it")
    return events.astype(np.int64)


def to_notes(events: np.ndarray, like: Media | None = None) -> Notes:
    """The way back, for any numbers from 0 to 127; the tempo carries over from ``like``."""
    beats = np.column_stack([events[:, 0], np.cumsum(events[:, 1]) / STEPS, (events[:, 2] + 1) / STEPS])
    return Notes(beats, like.tempo if isinstance(like, Notes) else TEMPO)
