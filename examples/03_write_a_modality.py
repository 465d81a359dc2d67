"""A modality in one file, in and out: melodies. A codec is enough; an encoder would give what goes in another view."""

from dataclasses import dataclass

import numpy as np
import torch

import anyany
from anyany.backbone import BackboneConfig
from anyany.model import TextTokenizer
from anyany.plugin import ANYANY_API, CodecSpec, Codes, ModalitySpec, Plan, Prepared, hookimpl
from anyany.plugin.registry import Registry


@dataclass(frozen=True, eq=False)
class Melody(anyany.Media):
    modality = "melody"
    notes: np.ndarray  # (n, 2): MIDI pitch, and length in sixteenths


class Notes(torch.nn.Module):  # a row is a note, two codes
    latents = Codes(vocab=128, books=2)

    def example(self, seed):
        return Melody(np.random.default_rng(seed).integers(1, 17, (4, 2)))

    def prepare(self, media, like=None):
        return Prepared(arrays={"notes": media.notes}, rows=len(media.notes))

    def encode(self, batch):
        return torch.from_numpy(np.concatenate([item.arrays["notes"] for item in batch]))

    def plan(self, like=None):
        return Plan(rows=16, fixed=False)  # at most 16 notes; the head learns where to end

    def decode(self, latents, like=None):
        return Melody(latents.numpy())

    def loss(self, batch):
        return {"nothing": torch.zeros(())}  # the codec has no weights


class Manifest:  # by hand; of a wheel it is a module, which an entry point names
    ANYANY_API = ANYANY_API

    @hookimpl
    def anyany_modalities(self):
        yield ModalitySpec(name="melody", media="__main__:Melody", axes=("note", "quantity"))

    @hookimpl
    def anyany_codecs(self):
        yield CodecSpec(id="melody/notes", modality="melody", factory="__main__:Notes", latents=Notes.latents)


if __name__ == "__main__":
    (plugins := Registry.isolated()).register(Manifest(), "melody")
    size, words = BackboneConfig(width=64, layers=2, heads=4), TextTokenizer.train(["How does it go on?"], 300)
    model = anyany.compose(backbone=size, tokenizer=words, decoders=["melody"], plugins=plugins)
    song = Melody(np.array([[64, 4], [64, 4], [65, 4], [67, 4]]))
    print(model.generate([song, "How does it go on?"], want=["melody"]).parts[0].notes.tolist())  # untrained: any notes
