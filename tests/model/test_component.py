"""Encoders and codecs on their own give what they give inside a model, with one shard of a checkpoint or none."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from imu_plugin import Imu, ImuCodec, ImuEncoder

import anyany
from anyany.errors import (
    CheckpointError,
    MediaError,
    MissingPluginError,
    PluginError,
    PromptError,
    SpanMismatchError,
    UnknownModalityError,
)
from anyany.model.document import Planner
from anyany.parts import Image
from anyany.parts.messages import as_messages
from anyany.plugin.registry import Registry


def imu(length: int, seed: int = 0) -> Imu:
    return Imu(np.random.default_rng(seed).normal(size=(length, 3)).astype(np.float32))


PARTS = [imu(5, 1), imu(1, 2), imu(11, 3)]


@pytest.fixture
def saved(make_model, tmp_path):
    model = make_model(kind="books")
    model.save(tmp_path / "m")
    return model, tmp_path / "m"


def test_features_are_those_that_the_model_sees(make_model):
    model = make_model()
    features = anyany.encode("imu", PARTS, weights=model)
    assert [f.shape for f in features] == [(5, 8), (1, 8), (11, 8)]
    document = model.planner.plan(as_messages([*PARTS]))
    seen = [p.prepared for p in document.pieces if p.prepared is not None]
    torch.testing.assert_close(torch.cat(features), model.encoders["imu/linear"](seen), rtol=0, atol=0)
    for part, feature in zip(PARTS, features, strict=True):  # who else is in the batch does not matter
        (alone,) = anyany.encode("imu/linear", [part], weights=model)
        torch.testing.assert_close(feature, alone)


def test_codes_are_those_that_the_model_learns(make_model):
    model = make_model(kind="codes")
    codes = anyany.tokenize("imu/signs", PARTS, weights=model)
    planner: Planner = model.planner
    planned = [planner.plan(as_messages([{"role": "assistant", "content": [p]}])) for p in PARTS]
    for document, code in zip(planned, codes, strict=True):
        prepared = [p.prepared for p in document.pieces if p.prepared is not None]
        assert torch.equal(code, model.codecs["imu/signs"].encode(prepared))
    assert all(c.dtype == torch.int64 and not c.requires_grad for c in codes)


@pytest.mark.parametrize("kind", ["codes", "books", "flow"])
@pytest.mark.parametrize("form", [lambda z: z, lambda z: z.numpy(), lambda z: z.tolist()])
def test_latents_come_back_as_media(kind, form):
    codec = ImuCodec(kind)
    again = anyany.detokenize(codec, [form(z) for z in anyany.tokenize(codec, PARTS)])
    for part, made in zip(PARTS, again, strict=True):
        wanted = part.readings if kind == "flow" else np.where(part.readings > 0, 1, -1)
        np.testing.assert_array_equal(made.readings, wanted)


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.uint32, torch.int32])
def test_codes_of_any_integer_type_come_back(kind):
    codes = torch.tensor([[1], [7], [0]])
    assert anyany.detokenize(ImuCodec(), [codes.to(kind)]) == anyany.detokenize(ImuCodec(), [codes])
    with pytest.raises(MediaError, match="complex"):
        anyany.detokenize(ImuCodec(), [codes.to(torch.complex64)])


def test_like_reaches_each_part_of_its_own():
    codec = ImuCodec()
    seen = []
    codec.prepare = lambda media, like=None: seen.append(like) or ImuCodec.prepare(codec, media, like)
    codec.decode = lambda latents, like=None: seen.append(like) or ImuCodec.decode(codec, latents, like)
    before = [PARTS[2], None, PARTS[0]]
    anyany.detokenize(codec, anyany.tokenize(codec, PARTS, like=before), like=before)
    assert [id(x) for x in seen] == [id(x) for x in [*before, *before]]


def test_a_shard_is_enough(saved, plugins):
    model, folder = saved
    for shard in ("backbone", "text", "projector-imu-linear", "head-imu-signs"):
        (folder / f"{shard}.safetensors").unlink()
    encoder = anyany.encoder("imu", folder, plugins=plugins)
    assert not encoder.training
    assert torch.equal(encoder.linear.weight, model.encoders["imu/linear"].linear.weight)
    codec = anyany.codec("imu/signs", folder, plugins=plugins)
    assert codec.latents == model.codecs["imu/signs"].latents  # the configuration of the checkpoint, not the spec's
    (folder / "encoder-imu-linear.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"encoder-imu-linear\.safetensors is missing"):
        anyany.encoder("imu", folder, plugins=plugins)


def test_a_component_of_a_model_is_the_one_in_it(make_model):
    model = make_model()
    assert anyany.encoder("imu", model) is model.encoders["imu/linear"]
    assert anyany.codec("imu", model) is model.codecs["imu/signs"]


def test_a_fresh_one_follows_the_seed(plugins):
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(anyany.encoder("imu", plugins=plugins).linear.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_gradients_reach_an_encoder_and_no_codec():
    encoder = ImuEncoder()
    torch.cat(anyany.encode(encoder, PARTS)).square().sum().backward()
    assert encoder.linear.weight.grad.abs().sum() > 0
    codec = ImuCodec("flow")
    codec.scale = torch.nn.Parameter(torch.ones(3))
    codec.encode = lambda batch: ImuCodec.encode(codec, batch) * codec.scale
    assert not any(z.requires_grad for z in anyany.tokenize(codec, PARTS))


def test_what_workers_prepared_is_taken_as_it_is():
    encoder, codec = ImuEncoder(), ImuCodec()
    for run, component in ((anyany.encode, encoder), (anyany.tokenize, codec)):
        for a, b in zip(run(component, PARTS), run(component, [component.prepare(p) for p in PARTS]), strict=True):
            assert torch.equal(a, b)


def test_no_parts_give_nothing():
    assert anyany.encode(ImuEncoder(), []) == anyany.tokenize(ImuCodec(), []) == anyany.detokenize(ImuCodec(), []) == []


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: anyany.encode(ImuCodec(), PARTS), PluginError, "a codec gives latents: anyany.tokenize"),
        (lambda: anyany.tokenize(ImuEncoder(), PARTS), PluginError, r"anyany.codec\(id\)"),
        (lambda: anyany.detokenize(3, PARTS), PluginError, "got int"),
        (lambda: anyany.encoder(3), PluginError, "got int"),
        (lambda: anyany.encode("image/fsq", []), UnknownModalityError, "no encoder for 'image/fsq'"),
        (lambda: anyany.codec("image/patch"), UnknownModalityError, "no codec for 'image/patch'"),
        (lambda: anyany.encode("image/patch", []), CheckpointError, r"has weights.*anyany.encoder\('image/patch'\)"),
        (lambda: anyany.encode(ImuEncoder(), [], weights="mini"), CheckpointError, "ImuEncoder has its own"),
        (lambda: anyany.encoder("image", "nowhere"), CheckpointError, "nothing at nowhere"),
        (lambda: anyany.encode(ImuEncoder(), PARTS[0]), PromptError, r"got Imu; put it into \[\]"),
        (lambda: anyany.encode(ImuEncoder(), [PARTS[0], "a word"]), PromptError, "part 1: expected media, got str"),
        (lambda: anyany.encode(ImuEncoder(), [Image.from_array(np.eye(3))]), MediaError, "got Image"),
        (lambda: anyany.tokenize(ImuCodec(), PARTS, like=[None]), PromptError, "each of 3 parts, got 1"),
        (lambda: anyany.detokenize(ImuCodec(), [[[1]], [[8]]]), MediaError, "latents 1: .* below 8, got 8 to 8"),
        (lambda: anyany.detokenize(ImuCodec(), [[[1, 2]]]), MediaError, r"integers \(rows, 1\)"),
        (lambda: anyany.detokenize(ImuCodec(), [[[1.0]]]), MediaError, "got torch.float32"),
        (lambda: anyany.detokenize(ImuCodec(), ["x"]), MediaError, "got str"),
        (lambda: anyany.detokenize(ImuCodec("flow"), [[[1, 2, 3]]]), MediaError, r"numbers \(rows, 3\)"),
        (lambda: anyany.detokenize(ImuCodec("flow"), [torch.zeros(0, 3)]), MediaError, r"got torch.float32 \(0, 3\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_a_component_that_makes_other_rows_is_said():
    encoder = ImuEncoder()
    encoder.forward = lambda batch: torch.zeros(3, 8)
    with pytest.raises(SpanMismatchError, match=r"ImuEncoder.*declared 17 rows, produced 3"):
        anyany.encode(encoder, PARTS)


def test_a_checkpoint_says_what_it_lacks(saved, plugins, make_model, tmp_path):
    model, folder = saved
    for given in (model, folder):
        with pytest.raises(UnknownModalityError, match="no encoder for 'smell'; its encoders: imu/linear"):
            anyany.encoder("smell", given, plugins=plugins)
    make_model(modality=False).save(tmp_path / "text")
    with pytest.raises(UnknownModalityError, match="its codecs: none"):
        anyany.codec("imu", tmp_path / "text", plugins=plugins)
    with pytest.raises(MissingPluginError, match="pip install anyany-imu"):
        anyany.codec("imu/signs", folder, plugins=Registry.isolated())
    shutil.copy(folder / "codec-imu-signs.safetensors", folder / "encoder-imu-linear.safetensors")
    with pytest.raises(CheckpointError, match="lacks the tensor"):
        anyany.encoder("imu", folder, plugins=plugins)
