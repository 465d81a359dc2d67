"""Media out, as vectors, and how well: a task and a metric of its own."""

from anyany.plugin import CodecSpec, MetricSpec, ModalitySpec, TaskSpec, Vectors, hookimpl

ANYANY_API = 1


@hookimpl
def anyany_modalities():
    yield ModalitySpec(name="drift", media="frozen_drift.parts:Drift", axes=("time", "axis"))


@hookimpl
def anyany_codecs():
    yield CodecSpec(
        id="drift/points",
        modality="drift",
        factory="frozen_drift.parts:Codec",
        latents=Vectors(dim=2, objective="flow"),
    )


@hookimpl
def anyany_tasks():
    yield TaskSpec(id="drift/again", factory="frozen_drift.parts:again", description="points -> the same")


@hookimpl
def anyany_metrics():
    yield MetricSpec(id="drift/error", modality="drift", factory="frozen_drift.parts:error", higher_is_better=False)
