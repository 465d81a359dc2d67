"""Notes as they are written: pitches, and beats. Files are read and written by mido.

Shapes: N notes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar, Self

import mido
import numpy as np

from anyany.errors import EmptyMediaError, MediaDecodeError, MediaError, UnsupportedMediaError
from anyany.parts import Media

PERCUSSION = 9  # the channel on which a pitch is an instrument
TICKS = 480  # of a beat, in files that are written: sixteenths and triplets are whole numbers of them
TEMPO = 120.0  # beats a minute, where nothing is said: as in a MIDI file


@dataclass(frozen=True, eq=False)
class Notes(Media):
    """Notes in the order of their starts; those that start together, from low to high.

    Attributes:
        notes: ``(N, 3)`` float32: MIDI pitch from 0 to 127 (60 is the middle C), start and length in beats.
        tempo: Beats a minute.
    """

    modality: ClassVar[str] = "midi"
    formats: ClassVar[tuple[str, ...]] = ("mid",)
    notes: np.ndarray
    tempo: float = TEMPO

    def __post_init__(self) -> None:
        notes = np.asarray(self.notes, np.float32)
        if notes.size == 0:
            raise EmptyMediaError("midi: expected at least one note, got none")
        if notes.ndim != 2 or notes.shape[1] != 3:
            raise MediaError(f"midi: expected notes (N, 3): pitch, start, length; got {notes.shape}")
        pitch, start, length = notes.T
        if not (np.isin(pitch, np.arange(128)).all() and (start >= 0).all() and (length > 0).all()):
            raise MediaError(
                "midi: expected whole pitches from 0 to 127, starts from 0 on and lengths above 0, in beats"
            )
        if not (np.isfinite(notes).all() and 1 <= self.tempo <= 1000):
            raise MediaError(f"midi: expected finite beats and 1 to 1000 of them a minute, got a tempo of {self.tempo}")
        self._freeze(notes=notes[np.lexsort((pitch, start))], tempo=float(self.tempo))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a MIDI file: the notes of all its tracks but percussion, and the tempo at its beginning.

        Raises:
            MediaDecodeError: The bytes are no MIDI file, or are damaged.
            UnsupportedMediaError: Its tracks are independent of each other, or it counts time in frames of a film.
            EmptyMediaError: It holds no note.
        """
        try:
            file = mido.MidiFile(file=io.BytesIO(data))
        except Exception:  # what mido raises about damaged files has no common type
            raise MediaDecodeError("midi: expected the bytes of a MIDI file; these are none, or are damaged") from None
        if file.type == 2 or file.ticks_per_beat <= 0:
            raise UnsupportedMediaError(
                "midi: expected tracks that go together and count beats; save it as type 0 or 1"
            )
        tempos = [message.tempo for message in file.merged_track if message.type == "set_tempo"]
        notes = [note for track in file.tracks for note in _sounding(track)]
        beats = np.array(notes).reshape(-1, 3) / [1, file.ticks_per_beat, file.ticks_per_beat]
        return cls(beats, mido.tempo2bpm(tempos[0]) if tempos and tempos[0] else TEMPO)

    def to_bytes(self, format: str | None = None) -> bytes:
        """A MIDI file of one track; every note is as loud as the others."""
        if format not in (None, *self.formats):
            raise UnsupportedMediaError(f"midi: expected the format mid, got {format!r}; name the file *.mid")
        pitch, start, length = self.notes.T.astype(np.float64)
        begins = np.rint(start * TICKS).astype(int)
        ends = np.maximum(begins + 1, np.rint((start + length) * TICKS).astype(int))
        events = sorted(  # a note ends before the next one of its pitch begins
            [(t, 0, int(p)) for t, p in zip(ends, pitch, strict=True)]
            + [(t, 1, int(p)) for t, p in zip(begins, pitch, strict=True)]
        )
        track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(self.tempo))])
        before = 0
        for tick, on, note in events:
            track.append(mido.Message("note_on" if on else "note_off", note=note, time=int(tick - before)))
            before = tick
        out = io.BytesIO()
        mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save(file=out)
        return out.getvalue()

    def __repr__(self) -> str:
        end = (self.notes[:, 1] + self.notes[:, 2]).max()
        return f"Notes({len(self.notes)} notes, {end:g} beats, {self.tempo:g} a minute)"


def _sounding(track: mido.MidiTrack) -> list[tuple[int, int, int]]:
    """Pitch, start and length in ticks of the notes of a track; what nobody ends sounds until its end."""
    made, since, now = [], {}, 0
    for message in track:
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == PERCUSSION:
            continue
        key = (message.channel, message.note)
        if key in since:  # it ends, or is struck again
            made.append((message.note, since[key], now - since.pop(key)))
        if message.type == "note_on" and message.velocity:
            since[key] = now
    made += [(note, start, now - start) for (_, note), start in since.items()]
    return [(note, start, max(1, ticks)) for note, start, ticks in made]


def example(seed: int) -> Notes:
    """A few notes one after the other, and a last chord: tiny, valid, no file, no network."""
    draw = np.random.default_rng(seed)
    count = int(draw.integers(3, 8))
    starts = np.append(np.arange(count), [count, count]) / 2
    return Notes(np.column_stack([draw.integers(48, 84, count + 2), starts, draw.integers(1, 5, count + 2) / 4]), 100.0)
