"""Notes keep the contract; files come back, odd ones too; names of tunes follow from their notes."""

import io

import mido
import numpy as np
import pytest

import anyany
from anyany.errors import EmptyMediaError, MediaDecodeError, MediaError, UnsupportedMediaError
from anyany.parts import Image
from anyany.testing import checks, parametrize
from anyany_midi.codec import EventCodec
from anyany_midi.media import Notes, example
from anyany_midi.tunes import NAMES, cut, fits, joined, tune


def line(count):
    return Notes(np.column_stack([np.full(count, 60), np.arange(count) / 2, np.full(count, 0.5)]))


SIZES = [line(1), Notes([[60, 3, 1], [64, 3, 1], [67, 3.5, 32]]), line(128)]
REFUSED = [line(129), Notes([[60, 0, 33]]), Notes([[60, 0, 1], [60, 40, 1]])]


@parametrize([check for id in ("midi/notes", "midi/events") for check in checks(id, sizes=SIZES, refuses=REFUSED)])
def test_conforms(check):
    check()


def test_media_of_others_are_refused():
    for component in (anyany.encoder("midi"), anyany.codec("midi")):
        with pytest.raises(MediaError, match="expected Notes, got Image"):
            component.prepare(Image.from_array([[0.5]]))


@pytest.mark.parametrize("seed", range(5))
def test_sixteenths_come_back_from_the_codec_with_their_tempo(seed):
    draw = np.random.default_rng(seed)
    count = int(draw.integers(1, 50))
    notes = np.column_stack(
        [draw.integers(0, 128, count), np.cumsum(draw.integers(0, 9, count)) / 4, draw.integers(1, 129, count) / 4]
    )
    tune = Notes(notes, tempo=97.0)
    codec = anyany.codec("midi/events")
    assert anyany.detokenize(codec, anyany.tokenize(codec, [tune]), like=[tune]) == [tune]
    (at_120,) = anyany.detokenize(codec, anyany.tokenize(codec, [tune]))
    assert at_120.tempo == 120


def test_what_lies_between_sixteenths_goes_to_the_nearest():
    (again,) = anyany.detokenize(
        EventCodec(9), anyany.tokenize(EventCodec(9), [Notes([[60, 0.3, 0.05], [62, 1.4, 0.6]])])
    )
    np.testing.assert_array_equal(again.notes, [[60, 0.25, 0.25], [62, 1.5, 0.5]])


@pytest.mark.parametrize("seed", range(5))
def test_a_file_comes_back(tmp_path, seed):
    draw = np.random.default_rng(seed)
    starts = np.cumsum(draw.integers(0, 480, 40)) / 480
    pitch = 20 + np.arange(40) * 2  # no pitch twice: one that sounds cannot be struck again
    tune = Notes(np.column_stack([pitch, starts, draw.integers(1, 2000, 40) / 480]), 90.0)
    again = Notes.open(tune.save(tmp_path / "tune.mid"))
    np.testing.assert_allclose(again.notes, tune.notes, atol=1e-4)
    assert again.tempo == pytest.approx(90, abs=1e-3)


def file(*tracks, **options):
    out = io.BytesIO()
    mido.MidiFile(tracks=[mido.MidiTrack(track) for track in tracks], **options).save(file=out)
    return out.getvalue()


def on(note, time=0, **options):
    return mido.Message("note_on", note=note, time=time, **options)


def off(note, time=0):
    return mido.Message("note_off", note=note, time=time)


def test_tracks_go_together_and_percussion_stays_out():
    tempo = mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(75))
    first, second = [tempo, on(64, 48), off(64, 96)], [on(60), off(60, 24), on(35, 0, channel=9)]
    made = Notes.from_bytes(file(first, second, type=1, ticks_per_beat=96))
    assert made == Notes([[60, 0, 0.25], [64, 0.5, 1]], 75.0)


def test_notes_that_are_struck_again_silenced_or_never_end():
    track = [on(60), on(60, 96), on(60, 96, velocity=0), on(62), on(64, 96), mido.MetaMessage("end_of_track", time=96)]
    made = Notes.from_bytes(file(track, ticks_per_beat=96))
    assert made == Notes([[60, 0, 1], [60, 1, 1], [62, 2, 2], [64, 3, 1]])


WHOLE = file([on(60), off(60, 480)])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", MediaDecodeError),
        (b"RIFF....", MediaDecodeError),
        (WHOLE[:20], MediaDecodeError),
        (WHOLE[:-6], MediaDecodeError),
        (file([on(60), off(60, 9)], type=2), UnsupportedMediaError),
        (WHOLE[:12] + b"\xe7\x28" + WHOLE[14:], UnsupportedMediaError),  # 25 frames a second
        (file([mido.MetaMessage("text", text="hush")]), EmptyMediaError),
    ],
)
def test_what_cannot_be_read_is_refused(data, error):
    with pytest.raises(error):
        Notes.from_bytes(data)


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        (np.zeros((2, 2)), r"\(2, 2\)"),
        ([[60.5, 0, 1]], "whole pitches"),
        ([[128, 0, 1]], "whole pitches"),
        ([[60, -1, 1]], "from 0 on"),
        ([[60, 0, 0]], "above 0"),
        ([[60, 0, np.inf]], "finite"),
        ([], "at least one"),
    ],
)
def test_what_are_no_notes_is_refused(notes, says):
    with pytest.raises(MediaError, match=says):
        Notes(notes)


def test_other_formats_are_not_written(tmp_path):
    with pytest.raises(UnsupportedMediaError, match="mid"):
        example(0).save(tmp_path / "tune.wav")


def test_a_tune_has_its_name_and_no_other():
    draw = np.random.default_rng(0)
    for name in NAMES:
        notes = tune(name, draw)
        assert [other for other in NAMES if fits(notes, other)] == [name]
        first, rest = cut(notes)
        assert fits(joined(first, rest), name)
        assert not fits(joined(first, first), name)


@pytest.mark.parametrize("wrong", [[0, 1, 0], [0, 0, 0.25], [0, 0.25, 0]])
def test_one_note_that_is_wrong_spoils_a_tune(wrong):
    notes = tune("D dorian scale", np.random.default_rng(0)).notes.copy()
    notes[-2] += wrong
    assert not fits(Notes(notes), "D dorian scale")
