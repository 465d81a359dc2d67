"""Faults, one at a time: ``config={"fault": NAME}``, and a manifest that differs by a field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import broken_codecs
import broken_encoders
from good import Good, GoodCodec
from torch import nn

from anyany.plugin import Capabilities, CodecSpec, Codes, EncoderSpec, ModalitySpec, hookimpl


def _found(module: Any, base: type, without: tuple[type, ...] = ()) -> dict[str, type]:
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, base)]
    return {kind.__name__: kind for kind in kinds if kind not in without}


GOOD = {"Good", "GoodCodec", "GoodVectors"}
ENCODERS = _found(broken_encoders, Good)
CODECS = _found(broken_codecs, GoodCodec)
CAN = {True: Capabilities(dtypes=("float32", "bfloat16")), False: Capabilities(streaming=True)}
"""What an encoder promises, and what a codec does."""


def build(fault: str, beside: object = None) -> nn.Module:
    kind = (ENCODERS | CODECS)[fault]
    return kind(beside) if fault == "Tupled" else kind()


class Manifest:
    """Registered by hand: what it declares differs by one fault."""

    ANYANY_API = 1

    def __init__(self, fault: str, *, media: str = "good:Trace", **fields: Any) -> None:
        self.fault, self.media = fault, media
        kind = (ENCODERS | CODECS)[fault]
        can = replace(CAN[fault in ENCODERS], **getattr(kind, "can", {}))
        given = {"modality": "trace", "factory": "broken:build", "config": {"fault": fault}, "can": can}
        if fault in CODECS:
            given["latents"] = Codes(vocab=8)
        self.fields = given | getattr(kind, "declares", {}) | fields

    @hookimpl
    def anyany_modalities(self):
        yield ModalitySpec(name="trace", media=self.media, axes=("time",))

    @hookimpl
    def anyany_encoders(self):
        if self.fault in ENCODERS:
            yield EncoderSpec(id="trace/in", **self.fields)

    @hookimpl
    def anyany_codecs(self):
        if self.fault in CODECS:
            yield CodecSpec(id="trace/out", **self.fields)
