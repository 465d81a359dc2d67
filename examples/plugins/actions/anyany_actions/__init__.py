"""Observations in, actions out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import Capabilities, CodecSpec, Codes, EncoderSpec, ModalitySpec, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_modalities():
    """Two words: what is seen, and what is done."""
    yield ModalitySpec(name="observation", media="anyany_actions.media:Observation", axes=("number",))
    yield ModalitySpec(name="action", media="anyany_actions.media:Action", axes=("number",))


@hookimpl
def anyany_encoders():
    """An observation is a row."""
    yield EncoderSpec(
        id="actions/numbers",
        modality="observation",
        factory="anyany_actions.encoder:NumbersEncoder",
        config={"numbers": 4, "scale": [1.0, 1.0, 1.0, 1.0], "octaves": 2, "width": 64},
        can=Capabilities(limits={"numbers": 4}),
    )


@hookimpl
def anyany_codecs():
    """An action is a row of codes, one for each of its numbers."""
    yield CodecSpec(
        id="actions/bins",
        modality="action",
        factory="anyany_actions.codec:BinsCodec",
        latents=Codes(vocab=21, books=1),
        config={"low": [-1.0], "high": [1.0], "bins": 21},
        can=Capabilities(trainable=False),
    )
