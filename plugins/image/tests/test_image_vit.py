"""The vision transformer: towers of transformers layer by layer, and pictures as their processors prepare them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Pillow
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from anyany.errors import MediaError, MediaTooLargeError
from anyany.importers.places import _place
from anyany.parts import Audio, Image
from anyany.plugin.registry import registry
from anyany_image.processing import Processing
from anyany_image.towers import names

SIZES = [(30, 30), (1, 1), (1, 60), (60, 1), (13, 40), (31, 47), (300, 200)]
SMALL = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 30,
    "patch_size": 7,
}  # fmt: skip


def bytes_of(shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("edge", [30, 25, 37])
@pytest.mark.parametrize("shape", SIZES)
def test_pixels_are_those_of_the_clip_processor_bit_for_bit(edge, shape):
    theirs = CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": 30, "width": 30})
    ours = Processing(
        size=30, edge=edge, resample=3, scale=theirs.rescale_factor, mean=theirs.image_mean, std=theirs.image_std
    )
    pixels = bytes_of(shape)
    wanted = theirs(Pillow.fromarray(pixels), return_tensors="np")["pixel_values"][0]
    found = ours(Image(pixels))
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("shape", SIZES)
def test_pixels_are_those_of_the_siglip_processor_bit_for_bit(resample, shape):
    theirs = SiglipImageProcessorPil(size={"height": 30, "width": 30}, resample=resample)
    ours = Processing(
        size=30, edge=None, resample=resample, scale=theirs.rescale_factor, mean=theirs.image_mean,
        std=theirs.image_std,
    )  # fmt: skip
    pixels = bytes_of(shape)
    wanted = theirs(Pillow.fromarray(pixels), return_tensors="np")["pixel_values"][0]
    assert np.array_equal(ours(Image(pixels)), wanted)


def test_what_is_no_picture_or_too_thin():
    processing = Processing(size=30, edge=30, resample=3, scale=1 / 255, mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(MediaError, match="expected an Image, got Audio"):
        processing(Audio.from_array(np.zeros(8), 8000))
    with pytest.raises(MediaTooLargeError, match="cut it first"):
        processing(Image.from_array(np.zeros((1, 100_000))))


def tower(kind, **config):
    """A tower of transformers with random weights, and ours with the same."""
    torch.manual_seed(0)
    theirs = kind(kind.config_class(**SMALL)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    numbers = {
        "size": 30, "patch": 7, "width": 24, "depth": 3, "heads": 3, "hidden": 40, **config,
        "processing": {"edge": None, "resample": 3, "scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3},
    }  # fmt: skip
    ours = registry().build(registry().encoder("image/vit"), **numbers).eval()
    state, given = ours.state_dict(), theirs.state_dict()
    for key, own in state.items():
        for name, piece in _place(None, key, tuple(own.shape), names("")).pieces(own).items():
            piece.copy_(given.pop(name))
    ours.load_state_dict(state)
    return theirs, ours, given


CLIP = {"class_row": True, "patch_bias": False, "first_norm": True, "activation": "quick_gelu", "eps": 1e-5}
LAYERS = [[0], [-1], [3], [-2], [1], [-2, 1, 0]]


@pytest.mark.parametrize("keep", [True, False], ids=["class row", "patches"])
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_layers_are_those_of_clip(layers, keep):
    theirs, ours, left = tower(transformers.CLIPVisionModel, **CLIP, layers=layers, keep_class=keep)
    assert not left
    batch = [ours.prepare(Image(bytes_of(shape))) for shape in ((30, 30), (13, 40))]
    pixels = torch.from_numpy(np.stack([item.arrays["pixels"] for item in batch]))
    with torch.no_grad():
        states = theirs(pixels, output_hidden_states=True).hidden_states
        wanted = torch.cat([states[layer] for layer in layers], dim=-1)[:, 0 if keep else 1 :]
        found = ours(batch)
    assert found.shape == (2 * (16 + keep), 24 * len(layers))
    assert ours.width == 24 * len(layers)
    torch.testing.assert_close(found, wanted.flatten(0, 1), rtol=0, atol=1e-5)


def test_the_last_layer_normalised_is_that_of_siglip():
    theirs, ours, left = tower(
        transformers.SiglipVisionModel, class_row=False, patch_bias=True, first_norm=False, activation="gelu_tanh",
        eps=1e-6, layers=[], keep_class=False,
    )  # fmt: skip
    assert all(name.startswith("head.") for name in left)  # pooling, which no language model reads
    item = ours.prepare(Image(bytes_of((40, 61))))
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(item.arrays["pixels"])[None]).last_hidden_state[0]
        torch.testing.assert_close(ours([item]), wanted, rtol=0, atol=1e-5)


def test_a_modality_alone_does_not_mean_it():
    assert registry().encoder("image").id == "image/patch"
    assert {spec.id for spec in registry().components("image")} == {"image/patch", "image/vit", "image/fsq"}
