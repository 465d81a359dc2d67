"""What people pass to ``load``, ``compose`` and ``save``: types and devices by name, and errors that say what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from imu_plugin import Imu

import anyany
from anyany.errors import AmbiguousComponentError, CheckpointError, UnknownModalityError
from anyany.model import compose

IMU = Imu(np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1]], np.float32))


@pytest.mark.parametrize("kind", ["codes", "books", "regression", "embedding", "flow", "flow-span"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", torch.float64])
def test_weights_of_another_type_do_all_that_a_model_does(make_model, plugins, tmp_path, kind, dtype):
    make_model(kind=kind, rows=4, fixed=True).save(tmp_path / "m")
    model = anyany.load(tmp_path / "m", plugins=plugins, device="cpu", dtype=dtype)
    assert model.backbone.blocks[0].mixer.out.weight.dtype == getattr(torch, str(dtype).removeprefix("torch."))
    reply = model.generate(["hello", IMU], want=["text", "imu", "text"], max_new_tokens=2, seed=1)
    assert reply.modalities == ("text", "imu", "text")
    assert all(np.isfinite(model.score(["hello", IMU], reply)))
    assert model.embed(IMU).isfinite().all()


def test_the_names_that_people_know(make_model, plugins, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "m")
    again = anyany.Model.from_pretrained(tmp_path / "m", plugins=plugins, device="cpu", dtype="float32")
    assert again.generate("hello", max_new_tokens=4).parts == model.generate("hello", max_new_tokens=4).parts


def test_a_component_keeps_the_type_that_it_runs_in(make_model, plugins, tmp_path):
    make_model().save(tmp_path / "m")
    model = anyany.load(tmp_path / "m", plugins=plugins, device="cpu", dtype="bfloat16")
    for part in (*model.encoder_parts, *model.decoders):
        component = getattr(part, "encoder", None) or part.codec
        kept = {p.dtype for p in component.parameters() if p.is_floating_point()}
        assert kept <= {torch.bfloat16 if "bfloat16" in part.spec.can.dtypes else torch.float32}


@pytest.mark.parametrize(
    ("options", "said"),
    [({"dtype": "float61"}, "dtype: expected a floating type"), ({"dtype": torch.int64}, "dtype: expected"),
     ({"dtype": "int8"}, "dtype: expected"), ({"dtype": "nn"}, "dtype: expected"),
     ({"device": "toaster"}, "device: expected"), ({"device": "cuda:99"}, "device: expected")],
    ids=str,
)  # fmt: skip
def test_types_and_devices_that_are_none(make_model, plugins, tmp_path, options, said):
    make_model().save(tmp_path / "m")
    with pytest.raises(CheckpointError, match=said):
        anyany.load(tmp_path / "m", plugins=plugins, **options)


@pytest.mark.parametrize("path", [None, 3, b"m", "nowhere", "some/repository"])
def test_paths_without_a_checkpoint(path):
    with pytest.raises(CheckpointError, match="load: expected"):
        anyany.load(path)


@pytest.mark.parametrize(
    "encoders",
    [
        "imu/linear",
        {"id": "imu/linear"},
        [None],
        [3],
        [{"name": "imu/linear"}],
        [{"id": "imu/linear", "layer": 1}],
        None,
    ],
    ids=str,
)
def test_lists_of_components_that_are_none(make_model, plugins, tmp_path, encoders):
    make_model(modality=False).save(tmp_path / "m")
    with pytest.raises(CheckpointError, match="compose: encoders: expected"):
        compose(backbone=tmp_path / "m", encoders=encoders, plugins=plugins)


def test_two_components_for_one_modality_are_named(make_model, plugins, tmp_path):
    make_model(modality=False).save(tmp_path / "m")
    for name, ids in (("encoders", ["imu", "imu/linear"]), ("decoders", ["imu", "imu/signs"])):
        with pytest.raises(AmbiguousComponentError, match="keep one"):
            compose(backbone=tmp_path / "m", plugins=plugins, **{name: ids})
    with pytest.raises(UnknownModalityError, match="Did you mean 'imu/linear'"):
        compose(backbone=tmp_path / "m", encoders=["imu/linaer"], plugins=plugins)


def test_a_place_that_cannot_be_written_is_a_typed_error(make_model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match=r"cannot be written .*another folder"):
        make_model().save(tmp_path / "file" / "below")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
