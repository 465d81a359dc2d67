"""Media out, as codes."""

from anyany.plugin import Capabilities, CodecSpec, Codes, ModalitySpec, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_modalities():
    yield ModalitySpec(name="steps", media="frozen_steps.parts:Steps", axes=("time",))


@hookimpl
def anyany_codecs():
    yield CodecSpec(
        id="steps/levels",
        modality="steps",
        factory="frozen_steps.parts:Codec",
        latents=Codes(vocab=16),
        config={"rows": 6},
        can=Capabilities(streaming=True),
    )
