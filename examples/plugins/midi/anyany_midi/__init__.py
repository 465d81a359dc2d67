"""Notes, in and out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import Capabilities, CodecSpec, Codes, EncoderSpec, ModalitySpec, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_modalities():
    """A word for a kind of media."""
    yield ModalitySpec(
        name="midi",
        media="anyany_midi.media:Notes",
        axes=("note", "quantity"),
        units={"pitch": "semitones", "start": "beats", "length": "beats", "tempo": "beats a minute"},
    )


@hookimpl
def anyany_encoders():
    """A row for each note."""
    yield EncoderSpec(
        id="midi/notes",
        modality="midi",
        factory="anyany_midi.encoder:NoteEncoder",
        config={"width": 64, "rows": 128},
        can=Capabilities(limits={"rows": 128}),
    )


@hookimpl
def anyany_codecs():
    """A row for each note: pitch, step and length are a code each, which the head of the core predicts in turn."""
    yield CodecSpec(
        id="midi/events",
        modality="midi",
        factory="anyany_midi.codec:EventCodec",
        latents=Codes(vocab=128, books=3),
        config={"rows": 128},
        can=Capabilities(trainable=False, limits={"rows": 128}),
    )
