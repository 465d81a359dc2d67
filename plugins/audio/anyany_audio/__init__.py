"""Sound in and out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import Capabilities, CodecSpec, Codes, EncoderSpec, MetricSpec, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_encoders():
    """The log-mel encoder."""
    yield EncoderSpec(
        id="audio/logmel",
        modality="audio",
        factory="anyany_audio.logmel:build_encoder",
        config={"rate": 8000, "width": 128, "depth": 2, "heads": 4},
        can=Capabilities(dtypes=("float32", "bfloat16"), limits={"seconds": 30}),
    )


@hookimpl
def anyany_codecs():
    """The speech codec."""
    yield CodecSpec(
        id="audio/melcodes",
        modality="audio",
        factory="anyany_audio.codec:build_codec",
        latents=Codes(vocab=512, books=4),
        config={"rate": 8000, "levels": [8, 8, 8], "books": 4, "width": 384, "seconds": 2.0},
        can=Capabilities(streaming=True, limits={"seconds": 30}),
    )


@hookimpl
def anyany_metrics():
    """Distance to another sound."""
    yield MetricSpec(
        id="audio/log-mel",
        modality="audio",
        factory="anyany_audio.metrics:log_mel",
        higher_is_better=False,
        description="mean absolute distance of log-mel energies in dB",
        config={"rate": 8000},
    )
