"""Point clouds, in and out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import CodecSpec, Codes, EncoderSpec, ModalitySpec, hookimpl

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
    """Four codes for a cloud of any size, and 48 points of four codes."""
    yield CodecSpec(
        id="points/set",
        modality="points",
        factory="anyany_points.codec:SetCodec",
        latents=Codes(vocab=625),
        config={"rows": 4, "count": 48, "hidden": 64},
    )
