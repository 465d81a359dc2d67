"""The standard words: kinds of media whose axes and units the core owns.

A shared vocabulary makes one author's encoder work with another's codec. Plugins add words of their
own and never redefine these.
"""

from __future__ import annotations

from anyany.plugin.specs import ModalitySpec

TEXT = "text"
"""The first modality. Its parts are plain ``str``, so it has no media class and no spec."""

_SPECS = (
    ModalitySpec(name="image", media="anyany.parts:Image", axes=("height", "width", "channel")),
    ModalitySpec(name="audio", media="anyany.parts:Audio", axes=("channel", "time"), units={"rate": "Hz"}),
    ModalitySpec(
        name="video",
        media="anyany.parts:Video",
        axes=("time", "height", "width", "channel"),
        units={"time": "s"},
    ),
    ModalitySpec(name="timeseries", media="anyany.parts:TimeSeries", axes=("time", "column")),
    ModalitySpec(
        name="motion",
        media="anyany.parts:Motion",
        axes=("time", "joint", "quaternion"),
        units={"fps": "Hz"},
    ),
)

STANDARD: dict[str, ModalitySpec] = {spec.name: spec for spec in _SPECS}
