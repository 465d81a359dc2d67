"""Runs that train an adapter: the base stays bit for bit, runs go on, and the old is kept where the adapter is off."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from imu_plugin import Imu

from anyany.errors import AdapterError, RecipeError
from anyany.parts import Message
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe

TARGETS = ["backbone", "encoder/imu/linear", "projector/", "head/imu/signs"]


class Names:
    """A movement in, a word out, or the other way round."""

    def __len__(self):
        return 8

    def sample(self, index, draw):
        imu = Imu(
            np.full((4, 3), 1.0 if index % 2 else -1.0, np.float32) + draw.normal(0, 0.1, (4, 3)).astype(np.float32)
        )
        word = "one" if index % 2 else "two"
        parts = (word, imu) if index < 4 else (imu, word)
        return [Message("user", parts[:1]), Message("assistant", parts[1:])]


class Alone(Names):
    """Movements by themselves."""

    def sample(self, index, draw):
        return Imu(np.full((4, 3), 1.0, np.float32))


def recipe(**changes):
    return make_recipe({
        "name": "t", "model": "none", "sources": {"names": {"factory": "test_lora:Names"}}, "steps": 6, "rows": 64,
        "log_every": 2, "checkpoint_every": 2, "lora": {"targets": TARGETS, "rate": 1e-2, "rank": 4}, **changes,
    })  # fmt: skip


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])


def test_only_the_adapter_changes(make_model, tmp_path):
    model = make_model()
    before = {k: v.clone() for k, v in model.components.state_dict().items()}
    plain = model.logits(["one"]).clone()
    run = Run(recipe(), tmp_path, model)
    run.run()
    assert all(torch.equal(v, before[k]) for k, v in model.components.state_dict().items())
    told = {entry["name"]: entry for entry in json.loads((tmp_path / "components.json").read_text())}
    assert [name for name, entry in told.items() if entry["changed"]] == ["adapter"]
    assert told["adapter"]["trainable"] == told["adapter"]["parameters"] > 0
    assert told["adapter"]["norm"] > 0
    assert not (tmp_path / "model").exists()
    model.adapters.use(None)
    assert torch.equal(model.logits(["one"]), plain)
    fresh = make_model()
    fresh.load_adapter(tmp_path / "adapter", "x")
    model.adapters.use("adapter")
    fresh.adapters.use("x")
    assert torch.equal(fresh.logits(["one"]), model.logits(["one"]))
    assert not torch.equal(fresh.logits(["one"]), plain)


def test_a_component_may_train_in_full_beside_it(make_model, tmp_path):
    run = Run(recipe(rates={"projector/": 1e-3}, lora={"targets": ["backbone"], "rate": 1e-2}), tmp_path, make_model())
    run.run()
    assert {entry.name for entry in run.entries() if entry.changed} == {"projector/imu/linear", "adapter"}
    assert (tmp_path / "model" / "config.json").exists()
    assert (tmp_path / "adapter" / "adapter_config.json").exists()


def test_a_stopped_run_goes_on_bit_for_bit(make_model, tmp_path):
    whole = Run(recipe(ema=0.9), tmp_path / "whole", make_model())
    whole.run()
    Run(recipe(ema=0.9, steps=4, schedule="constant"), tmp_path / "cut", make_model()).close()
    cut = Run(recipe(ema=0.9), tmp_path / "cut", make_model())
    cut.model.train()
    for _ in range(4):
        cut.one_step()
    cut.save_state()
    cut.writer.wait()
    cut.close()
    again = Run(recipe(ema=0.9), tmp_path / "cut", make_model())
    assert again.resume()
    assert again.step == 4
    again.run()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key
    one, other = (run.folder / "adapter" / "adapter_model.safetensors" for run in (whole, again))
    assert one.read_bytes() == other.read_bytes()


def test_it_learns(make_model, tmp_path):
    run = Run(recipe(steps=120, log_every=120, checkpoint_every=120, schedule="constant"), tmp_path, make_model())
    run.model.train()
    losses = [run.one_step()["loss"] for _ in range(120)]
    run.close()
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_another_adapter_is_no_resumption(make_model, tmp_path):
    Run(recipe(steps=2), tmp_path, make_model()).run()
    with pytest.raises(RecipeError, match="begun with another lora"):
        Run(recipe(lora={"targets": ["backbone"], "rate": 1e-2}), tmp_path, make_model()).resume()


def test_a_store_does_not_hide_an_adapted_encoder(make_model, tmp_path):
    """Rows of a frozen encoder may come from a store, but not past the adapter on it."""
    run = Run(recipe(store=str(tmp_path / "store")), tmp_path / "run", make_model())
    run.run()
    adapter = run.model.adapters["adapter"]
    (up,) = (up for name, _, _, up in adapter.matrices() if name.startswith("encoder/"))
    assert up.any()


def test_a_run_that_trains_nothing_says_so(make_model, tmp_path):
    """A codec is trained on, an adapter of the backbone is to be trained."""
    run = Run(recipe(task="codec", rows=4, sources={"s": {"factory": "test_lora:Alone"}}), tmp_path, make_model())
    with pytest.raises(
        RecipeError, match="no gradient has reached adapter; the task 'codec' and its data train nothing"
    ):
        run.run()
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("lora", "error", "told"),
    [({"targets": ["backbone"]}, RecipeError, "expected rate above 0, got None"),
     ({"targets": "backbone", "rate": 1e-3}, RecipeError, r"expected targets = \['backbone', ...\], got 'backbone'"),
     ({"targets": ["backbone"], "rate": 1e-3, "alpha": 0}, RecipeError, "expected alpha above 0"),
     ({"targets": ["backbone"], "rate": 1e-3, "r": 4}, RecipeError, r"unknown keys \['r'\]"),
     ({"targets": ["towers/"], "rate": 1e-3}, AdapterError, "'towers/' matches no projection"),
     ({"targets": ["backbone"], "rate": 1e-3, "rank": 0}, AdapterError, "rank from 1")],
)  # fmt: skip
def test_wrong_adapters(make_model, tmp_path, lora, error, told):
    with pytest.raises(error, match=told):
        Run(recipe(lora=lora), tmp_path, make_model())
