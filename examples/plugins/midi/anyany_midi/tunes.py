"""Tunes that have a name by rule: ``F dorian arpeggio``. The rule makes them, and judges what else claims a name."""

from __future__ import annotations

import numpy as np

from anyany_midi.media import Notes

KEYS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MODES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10), "dorian": (0, 2, 3, 5, 7, 9, 10)}
FORMS = {  # degrees of the mode, 0 is the key; the sixth, which alone tells dorian from minor, is in each of them
    "scale": (0, 1, 2, 3, 4, 5, 6, 7),
    "arpeggio": (0, 2, 4, 5, 7, 5, 4, 2),
    "broken chords": (0, 4, 2, 4, 3, 7, 5, 7, 4, 8, 6, 8, 0, 4, 2, 4),
}
NAMES = tuple(f"{key} {mode} {form}" for key in KEYS for mode in MODES for form in FORMS)
OCTAVES = (48, 60)  # C of them
VALUES = (0.5, 1.0)  # beats of a note


def pitches(name: str) -> np.ndarray:
    """Semitones above a C, note by note."""
    key, mode, form = name.split(" ", 2)
    degrees = np.array(FORMS[form])
    return KEYS.index(key) + np.array(MODES[mode])[degrees % 7] + 12 * (degrees // 7)


def tune(name: str, draw: np.random.Generator) -> Notes:
    """A tune of that name, in one of the octaves and note values, at some tempo."""
    pitch = pitches(name) + draw.choice(OCTAVES)
    value = draw.choice(VALUES)
    return Notes(
        np.column_stack([pitch, np.arange(len(pitch)) * value, np.full(len(pitch), value)]), draw.integers(80, 160)
    )


def fits(notes: Notes, name: str) -> bool:
    """Whether notes are a tune of that name: every pitch, all as long, one behind the other."""
    pitch, start, length = notes.notes.T
    wanted = pitches(name)
    return (
        len(pitch) == len(wanted)
        and len(shift := np.unique(pitch - wanted)) == 1
        and shift[0] in OCTAVES
        and length[0] in VALUES
        and bool((length == length[0]).all() and (start == np.arange(len(start)) * length[0]).all())
    )


def cut(notes: Notes) -> tuple[Notes, Notes]:
    """The first half, and the rest as a part of its own, which begins at once."""
    half = len(notes.notes) // 2
    rest = notes.notes[half:] - [0, notes.notes[half, 1], 0]
    return Notes(notes.notes[:half], notes.tempo), Notes(rest, notes.tempo)


def joined(first: Notes, rest: Notes) -> Notes:
    """Both, one behind the other."""
    end = first.notes[-1, 1] + first.notes[-1, 2]
    return Notes(np.concatenate([first.notes, rest.notes + np.float32([0, end, 0])]), first.tempo)
