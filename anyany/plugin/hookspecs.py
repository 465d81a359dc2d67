"""The hooks of the contract. A hook takes nothing, returns an iterable of specs, and may be called twice.

Hooks declare; they never build. Each worker process discovers for itself, so a hook must not depend
on anything but the installed distribution.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from anyany.plugin.specs import CodecSpec, EncoderSpec, ImporterSpec, MetricSpec, ModalitySpec, Spec, TaskSpec

PROJECT = "anyany"
"""Name of the pluggy project, and of the entry-point group."""

hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker(PROJECT)
hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a manifest as the implementation of the hook of the same name."""


@hookspec
def anyany_modalities() -> Iterable[ModalitySpec]:
    """Words for kinds of media that the core does not know.

    Example:
        ::

            @hookimpl
            def anyany_modalities():
                yield ModalitySpec(
                    name="imu", media="anyany_imu.media:Imu", axes=("time", "channel"), units={"time": "s"}
                )
    """


@hookspec
def anyany_encoders() -> Iterable[EncoderSpec]:
    """Encoders: media -> features, for understanding.

    Example:
        ::

            @hookimpl
            def anyany_encoders():
                yield EncoderSpec(
                    id="imu/conv", modality="imu", factory="anyany_imu.conv:build", config={"width": 256}
                )
    """


@hookspec
def anyany_codecs() -> Iterable[CodecSpec]:
    """Codecs: media <-> latents, for output and for training targets.

    Example:
        ::

            @hookimpl
            def anyany_codecs():
                yield CodecSpec(
                    id="imu/patch", modality="imu", factory="anyany_imu.patch:build", latents=Vectors(dim=6)
                )
    """


@hookspec
def anyany_tasks() -> Iterable[TaskSpec]:
    """Evaluation tasks: prompts, references, and the metrics that compare replies with them.

    Example:
        ::

            @hookimpl
            def anyany_tasks():
                yield TaskSpec(id="imu/activities", factory="anyany_imu.tasks:activities")
    """


@hookspec
def anyany_metrics() -> Iterable[MetricSpec]:
    """Metrics: how close replies come to references.

    Example:
        ::

            @hookimpl
            def anyany_metrics():
                yield MetricSpec(
                    id="imu/error", modality="imu", factory="anyany_imu.metrics:error", higher_is_better=False
                )
    """


@hookspec
def anyany_importers() -> Iterable[ImporterSpec]:
    """Importers of foreign language models.

    Example:
        ::

            @hookimpl
            def anyany_importers():
                yield ImporterSpec(id="imu/stablelm", model_types=("stablelm",), factory="anyany_imu.stablelm:importer")
    """


SPEC_OF_HOOK: dict[str, type[Spec]] = {
    "anyany_modalities": ModalitySpec,
    "anyany_encoders": EncoderSpec,
    "anyany_codecs": CodecSpec,
    "anyany_tasks": TaskSpec,
    "anyany_metrics": MetricSpec,
    "anyany_importers": ImporterSpec,
}
"""Each hook, and the only type that it may return."""
