"""The component that is looked at: how it is built, fed and run, and a tiny model around it.

Torch and the model are imported when something is built, so that what looks at manifests alone stays light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from anyany.plugin.records import PluginRecord
from anyany.plugin.registry import Registry
from anyany.plugin.specs import CodecSpec, Codes, ComponentSpec, EncoderSpec

if TYPE_CHECKING:
    from torch import Tensor

    from anyany.model import Model, TextTokenizer
    from anyany.parts import Media
    from anyany.plugin.components import Prepared

SEEDS = 3
"""Examples that a component is fed with."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A component under test.

    Attributes:
        spec: What it declares.
        plugins: Where it comes from.
        sizes: Media that it must take beside its examples.
        refuses: Media that it must refuse.
    """

    spec: ComponentSpec
    plugins: Registry
    sizes: tuple[Media, ...] = ()
    refuses: tuple[Media, ...] = ()

    # What it declares.

    @property
    def encodes(self) -> bool:
        """It is an encoder."""
        return isinstance(self.spec, EncoderSpec)

    @property
    def decodes(self) -> bool:
        """It is a codec."""
        return isinstance(self.spec, CodecSpec)

    @property
    def speaks_codes(self) -> bool:
        """It is a codec whose latents are codes."""
        return isinstance(self.spec, CodecSpec) and isinstance(self.spec.latents, Codes)

    @property
    def streams(self) -> bool:
        """It is a codec that promises to hand out media in chunks."""
        return self.decodes and self.spec.can.streaming

    @property
    def record(self) -> PluginRecord:
        """What became of its plugin."""
        return self.plugins.origin(self.spec)[0]

    @property
    def manifest(self) -> str:
        """Name of the module that declares it; empty where an object was registered by hand."""
        found = self.plugins.origin(self.spec)[1]
        return found.__name__ if isinstance(found, ModuleType) else ""

    # What it does.

    def build(self, seed: int = 0, **config: Any) -> Any:
        """A fresh component in eval mode, with weights that follow from the seed; random numbers stay as they are."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.plugins.build(self.spec, **config).eval()

    def media(self, component: Any) -> list[Media]:
        """Its own examples, and the sizes that its author gave."""
        return [*(component.example(seed) for seed in range(SEEDS)), *self.sizes]

    def batch(self, component: Any) -> list[Prepared]:
        """All of these, prepared; for a codec every second one follows another of its modality."""
        media = self.media(component)
        if self.encodes:
            return [component.prepare(item) for item in media]
        return [component.prepare(item, media[i - 1] if i % 2 else None) for i, item in enumerate(media)]

    def run(self, component: Any, batch: Sequence[Prepared]) -> Tensor:
        """Features or latents of a batch, without gradients."""
        import torch

        with torch.no_grad():
            return component(batch) if self.encodes else component.encode(batch)

    def model(self, seed: int = 0, *, alone: bool = False) -> Model:
        """A tiny model with this component and nothing else, or with text alone; weights follow from the seed."""
        import torch

        from anyany.backbone import BackboneConfig
        from anyany.model import Caches, compose

        entries: list[str | dict[str, Any]] = [] if alone else [self.spec.id]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = compose(
                backbone=BackboneConfig(width=32, layers=2, heads=4, kv_heads=2, sections=(2, 1, 1), scheme="time"),
                tokenizer=_tokenizer(), encoders=entries if self.encodes else [],
                decoders=entries if self.decodes else [], plugins=self.plugins,
            )  # fmt: skip
        for part in (model.backbone, model.text):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    parameter.data.mul_(4)  # far from uniform, so that a wrong row shows
        model.caches = Caches(features=0, prefixes=0)  # the component is asked each time
        return model


@lru_cache(maxsize=1)
def _tokenizer() -> TextTokenizer:
    from anyany.model import TextTokenizer

    return TextTokenizer.train(["What is this? It is one of two, and then it goes on."] * 4, 300)
