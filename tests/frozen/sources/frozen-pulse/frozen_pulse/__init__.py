"""Media in: an encoder, and nothing else."""

from anyany.plugin import EncoderSpec, ModalitySpec, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_modalities():
    yield ModalitySpec(name="pulse", media="frozen_pulse.parts:Pulse", axes=("time",), units={"values": "1/min"})


@hookimpl
def anyany_encoders():
    yield EncoderSpec(id="pulse/rows", modality="pulse", factory="frozen_pulse.parts:Encoder", config={"width": 8})
