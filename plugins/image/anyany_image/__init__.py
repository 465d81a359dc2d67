"""Pictures in and out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import Capabilities, CodecSpec, Codes, EncoderSpec, MetricSpec, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_encoders():
    """The patch encoder."""
    yield EncoderSpec(
        id="image/patch",
        modality="image",
        factory="anyany_image.patch:build_encoder",
        config={"size": 28, "channels": 1, "patch": 7, "width": 128, "depth": 2, "heads": 4},
        can=Capabilities(dtypes=("float32", "bfloat16")),
    )


@hookimpl
def anyany_codecs():
    """The codec of finite scalar quantisation."""
    yield CodecSpec(
        id="image/fsq",
        modality="image",
        factory="anyany_image.codec:build_codec",
        latents=Codes(vocab=1000),
        config={"size": 28, "channels": 1, "grid": 4, "levels": [8, 5, 5, 5], "width": 64},
    )


@hookimpl
def anyany_metrics():
    """Nearness to a picture of the same size."""
    yield MetricSpec(
        id="image/psnr",
        modality="image",
        factory="anyany_image.metrics:psnr",
        description="peak signal-to-noise ratio in dB, at most 100",
    )
    yield MetricSpec(
        id="image/ssim",
        modality="image",
        factory="anyany_image.metrics:ssim",
        description="structural similarity, 1 for equal pictures",
    )
