"""Moving pictures in and out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import Capabilities, CodecSpec, Codes, EncoderSpec, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_encoders():
    """Frames through the image encoder."""
    yield EncoderSpec(
        id="video/frames",
        modality="video",
        factory="anyany_video.encoder:build_encoder",
        config={"frames": 8, "size": 32, "channels": 1, "patch": 8, "width": 128, "depth": 1, "heads": 4},
        can=Capabilities(dtypes=("float32", "bfloat16")),
    )


@hookimpl
def anyany_codecs():
    """Tubelets as codes."""
    yield CodecSpec(
        id="video/fsq",
        modality="video",
        factory="anyany_video.codec:build_codec",
        latents=Codes(vocab=1000),
        config={
            "frames": 8, "size": 32, "channels": 1, "grid": 4, "levels": [8, 5, 5, 5], "width": 48, "fps": 8.0,
        },
    )  # fmt: skip
