"""The loop learns, and a run that was cut off goes on bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from imu_plugin import Imu
from safetensors.torch import load_file

from anyany.errors import RecipeError
from anyany.parts import Message
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe, read_recipe


class Pairs:
    """Text and the readings that it names, both ways."""

    def __len__(self) -> int:
        return 4

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        word = ["one", "two", "three", "four"][index]
        sign = np.array([[1, 1, 1], [1, -1, 1], [-1, 1, -1], [-1, -1, -1]][index], np.float32)
        imu = Imu((sign * draw.uniform(0.5, 1.0, (3, 3))).astype(np.float32))
        question, answer = (word, imu) if draw.random() < 0.5 else (imu, word)
        return [Message("user", (question,)), Message("assistant", (answer,))]


def recipe(**changes):
    base = {
        "name": "toy", "model": "unused", "sources": {"pairs": {"factory": "test_loop_pairs:Pairs"}},
        "rates": {"": 3e-3, "codec/": 0.0}, "steps": 6, "rows": 96, "checkpoint_every": 2, "log_every": 3,
    }  # fmt: skip
    return make_recipe({**base, **changes})


@pytest.fixture(autouse=True)
def pairs_module(monkeypatch):
    import sys
    import types

    module = types.ModuleType("test_loop_pairs")
    module.Pairs = Pairs
    monkeypatch.setitem(sys.modules, "test_loop_pairs", module)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("codes", {}),
        ("codes", {"ema": 0.9}),
        ("flow", {"accumulate": 2, "ema": 0.5}),
        ("flow-span", {"recompute": True}),
    ],
)
def test_resume_is_exact(make_model, tmp_path, kind, changes):
    def new(folder):
        return Run(recipe(**changes), tmp_path / folder, make_model(kind=kind, rows=3, fixed=True))

    whole = new("whole")
    whole.run()
    first = new("parts")
    first.task.begin(first.stream.fresh())
    first.model.train()
    for _ in range(4):
        first.one_step()
    first.save_state()
    first.writer.wait()
    first.one_step()  # lost in the crash
    second = new("parts")
    assert second.resume()
    assert second.step == 4
    assert second.begun == whole.begun  # what has changed is told since the beginning of the run, not of the process
    second.run()
    for (name, a), (_, b) in zip(whole.model.state_dict().items(), second.model.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    shards = sorted((tmp_path / "whole" / "model").glob("*.safetensors"))
    assert len(shards) > 4
    for shard in shards:
        assert shard.read_bytes() == (tmp_path / "parts" / "model" / shard.name).read_bytes(), shard.name


def test_the_result_is_the_average_and_the_checkpoint_goes_on_from_the_weights(make_model, tmp_path):
    run = Run(recipe(ema=0.9), tmp_path / "average", make_model())
    run.run()
    plain = Run(recipe(), tmp_path / "plain", make_model())
    plain.run()
    for name, weight in plain.model.state_dict().items():  # an average changes no step
        assert torch.equal(run.model.state_dict()[name], weight)
    shard = load_file(tmp_path / "average" / "model" / "text.safetensors")
    found = shard["embedding.weight"]
    assert torch.equal(found, run.average.averages["components.text.embedding.weight"])
    assert not torch.equal(found, run.model.text.embedding.weight)
    with pytest.raises(RecipeError, match="another ema"):
        Run(recipe(), tmp_path / "average", make_model()).resume()


@pytest.mark.parametrize("kind", ["codes", "flow-span"])
def test_recomputed_blocks_give_the_same_steps(make_model, tmp_path, kind):
    runs = []
    for recompute in (False, True):
        run = Run(recipe(recompute=recompute), tmp_path / str(recompute), make_model(kind=kind, rows=3, fixed=True))
        calls = []
        run.model.backbone.blocks[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(0))
        run.run()
        assert len(calls) == (12 if recompute else 6)
        runs.append(run)
    for (name, a), (_, b) in zip(*(run.model.state_dict().items() for run in runs), strict=True):
        assert torch.equal(a, b), name


def test_frozen_components_do_not_move(make_model, tmp_path):
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    run = Run(recipe(rates={"head/": 1e-2}), tmp_path, model)
    run.run()
    assert {e.name: e.changed for e in run.entries()} == {n: n.startswith("head/") for n in model.components}
    told = json.loads((tmp_path / "components.json").read_text())
    assert [
        (e["changed"], e["trainable"] > 0, e["norm"] is not None) for e in told if e["name"].startswith("head/")
    ] == [(True, True, True)]
    for name, value in model.state_dict().items():
        moved = not torch.equal(value, before[name])
        assert moved == name.startswith("components.head/") or name.endswith(("mean", "std")), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["codes", "books", "regression", "flow"])
def test_both_sides_learn(make_model, tmp_path, kind):
    model = make_model(kind=kind, rows=3, fixed=True)
    Run(recipe(steps=150, rows=512, checkpoint_every=1000, log_every=50), tmp_path, model).run()
    pairs = Pairs()
    right = drawn = 0
    for index, word in enumerate(["one", "two", "three", "four"]):
        for seed in range(5):
            draw = np.random.default_rng(seed)
            sign = np.sign(_imu(pairs, index, draw).readings)
            right += model.generate([Imu(sign * 0.7)], want=["text"], temperature=0.0).text == word
            made = model.generate([word], want=["imu"], seed=seed, temperature={"imu": 0.5}).parts[0]
            drawn += (np.sign(made.readings) == sign[: len(made.readings)]).mean() > 0.8
    assert right >= 18
    assert drawn >= 14


def _imu(pairs: Pairs, index: int, draw: np.random.Generator) -> Imu:
    parts = [p for m in pairs.sample(index, draw) for p in m.parts]
    return next(p for p in parts if isinstance(p, Imu))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"step": 3},
        {"sources": {}},
        {"task": "juggle"},
        {"sources": {"a": {}}},
        {"schedule": "x"},
        {"ema": 1.0},
        {"ema": -0.1},
        {"ema": True},
        {"ema": "0.9"},
        {"recompute": 2},
        {"tracker": "abacus"},
    ],
)
def test_bad_recipes(change):
    with pytest.raises(RecipeError):
        recipe(**change)


def test_recipes_are_overridden_from_the_command_line(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('name="a"\nmodel="m"\n[sources.s]\nfactory="f:g"\n[rates]\nbackbone=1e-3\n')
    changed = read_recipe(path, ["steps=7", "rates.text=0.5", "precision=bfloat16"])
    assert (changed.steps, changed.rates["text"], changed.precision) == (7, 0.5, "bfloat16")
    with pytest.raises(RecipeError, match="did you mean 'steps'"):
        read_recipe(path, ["stepz=7"])
