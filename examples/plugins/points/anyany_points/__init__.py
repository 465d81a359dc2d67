"""Point clouds, in and out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import Capabilities, CodecSpec, EncoderSpec, ModalitySpec, Vectors, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_modalities():
    """A word for a kind of media."""
    yield ModalitySpec(name="points", media="anyany_points.media:Points", axes=("point", "axis"))


@hookimpl
def anyany_encoders():
    """A few rows for a cloud of any size."""
    yield EncoderSpec(
        id="points/pooled",
        modality="points",
        factory="anyany_points.encoder:PooledEncoder",
        config={"rows": 4, "width": 64, "hidden": 64},
    )


@hookimpl
def anyany_codecs():
    """A row for each of 64 points; they are denoised together, in no order."""
    yield CodecSpec(
        id="points/set",
        modality="points",
        factory="anyany_points.codec:SetCodec",
        latents=Vectors(dim=3, objective="flow-span"),
        config={"count": 64},
        can=Capabilities(trainable=False),
    )
