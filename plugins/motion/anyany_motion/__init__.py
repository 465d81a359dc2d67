"""Motion in and out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import Capabilities, CodecSpec, EncoderSpec, MetricSpec, Vectors, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_encoders():
    """The transformer over rows of 6-D rotations."""
    yield EncoderSpec(
        id="motion/rot6d",
        modality="motion",
        factory="anyany_motion.encoder:build_encoder",
        config={"joints": 24, "frames": 5, "width": 128, "depth": 2, "heads": 4, "seconds": 12.0},
        can=Capabilities(dtypes=("float32", "bfloat16"), limits={"seconds": 12.0}),
    )


@hookimpl
def anyany_codecs():
    """The autoencoder whose rows are vectors."""
    yield CodecSpec(
        id="motion/latent",
        modality="motion",
        factory="anyany_motion.codec:build_codec",
        latents=Vectors(dim=32, objective="flow"),
        config={
            "joints": 24, "frames": 5, "rows": 15, "dim": 32, "width": 128,
            "names": None, "parents": None, "offsets": None,
        },
        can=Capabilities(limits={"seconds": 5.0}),
    )  # fmt: skip


@hookimpl
def anyany_metrics():
    """Distance of joints to those of another movement."""
    yield MetricSpec(
        id="motion/joint-error",
        modality="motion",
        factory="anyany_motion.metrics:joint_error",
        higher_is_better=False,
        description="mean distance of joints, in units of the skeleton",
        config={"relative": False},
    )
    yield MetricSpec(
        id="motion/pose-error",
        modality="motion",
        factory="anyany_motion.metrics:joint_error",
        higher_is_better=False,
        description="mean distance of joints seen from the root, in units of the skeleton",
        config={"relative": True},
    )
