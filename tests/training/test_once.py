"""Frozen components are looked up and not run; what trains, drops or depends on its neighbours is never stored."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import imu_plugin
import numpy as np
import pytest
import torch
from imu_plugin import Imu
from torch import nn

from anyany.errors import RecipeError, SpanMismatchError
from anyany.model import content
from anyany.parts import Message
from anyany.plugin import Prepared
from anyany.training import once
from anyany.training.loop import Run
from anyany.training.once import Once
from anyany.training.recipe import make_recipe
from anyany.training.store import Store

TESTS = Path(__file__).parent.parent
ENCODER, CODEC = "encoder/imu/linear", "codec/imu/signs"
WORDS = ("one", "two", "three", "four", "hello")


def readings(index: int) -> np.ndarray:
    """The same in every epoch; an odd number of rows, each item its own."""
    return np.random.default_rng(index).normal(size=(1 + 2 * (index % 3), 3)).astype(np.float32)


class Pairs:
    def __len__(self) -> int:
        return 5

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        imu, word = Imu(readings(index)), WORDS[index]
        question, answer = (word, imu) if draw.random() < 0.4 else (imu, word)
        return [Message("user", (question,)), Message("assistant", (answer,))]


class Bound(Pairs):
    def sample(self, index: int, draw: np.random.Generator) -> tuple[Imu, str]:
        return Imu(readings(index)), WORDS[index]


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    import types

    module = types.ModuleType("pairs_of_test_once")
    module.Pairs, module.Bound = Pairs, Bound
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(**changes):
        base = {
            "name": "toy", "model": "unused", "sources": {"p": {"factory": f"{module.__name__}:Pairs"}},
            "rates": {"projector/": 3e-3, "head/": 3e-3}, "steps": 9, "rows": 30, "checkpoint_every": 3, "log_every": 1,
            "store": str(tmp_path / "store"),
        }  # fmt: skip
        return make_recipe({**base, **changes})

    return make


@pytest.fixture
def frozen(make_model):
    def make(**codec):
        model = make_model(**codec)
        return model.requires_grad_(False).eval()

    return make


def items(model, *indices: int) -> list[Prepared]:
    return [model.encoders["imu/linear"].prepare(Imu(readings(i))) for i in indices]


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# Keys.


def test_rows_are_read_bit_for_bit_and_nothing_runs(frozen, tmp_path):
    model = frozen()
    plain = model.encoders["imu/linear"]
    calls = []
    plain.register_forward_hook(lambda module, batch, rows: calls.append(len(batch[0])))
    first = Once(model, Store(tmp_path))
    batch = items(model, 3, 1, 3, 2)
    made = model.producers[ENCODER](batch)
    assert calls == [3]  # an item that stands twice in a batch runs once
    assert torch.allclose(made, plain(batch), atol=1e-6)
    assert torch.equal(model.producers[ENCODER](batch), made)
    assert first.values() == {"stored": 0.5}
    assert first.values() == {}
    calls.clear()
    mixed = items(model, 4, 3, 0, 2)
    rows = model.producers[ENCODER](mixed)
    assert calls == [2]
    assert torch.allclose(rows, torch.cat([plain([item]) for item in mixed]), atol=1e-6)
    assert torch.equal(rows[mixed[0].rows :][: mixed[1].rows], made[: batch[0].rows])
    first.close()
    again = frozen()
    second = Once(again, Store(tmp_path))
    again.encoders["imu/linear"].forward = None  # nothing may run
    assert torch.equal(again.producers[ENCODER](mixed), rows)
    assert second.values() == {"stored": 1.0}


def test_an_empty_batch_of_rows_is_stored_too(frozen, tmp_path):
    model = frozen()
    Once(model, Store(tmp_path))
    nothing = model.encoders["imu/linear"].prepare(Imu(np.zeros((0, 3), np.float32)))
    for _ in range(2):
        assert model.producers[ENCODER]([nothing]).shape == (0, 8)


@pytest.mark.parametrize("kind", ["codes", "books", "flow"])
def test_latents_of_a_codec_keep_their_type(frozen, tmp_path, kind):
    model = frozen(kind=kind)
    codec = model.codecs["imu/signs"]
    expected = codec.encode(items(model, 0, 1, 2))
    for share in (0.0, 1.0):
        own = Once(model, Store(tmp_path))
        found = model.producers[CODEC](items(model, 0, 1, 2))
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
        assert own.values() == {"stored": share}
        own.close()


def test_encoder_and_codec_of_one_item_do_not_meet(frozen, tmp_path):
    model = frozen(kind="flow")
    Once(model, Store(tmp_path))
    assert model.producers[ENCODER](items(model, 1)).shape == (3, 8)
    assert model.producers[CODEC](items(model, 1)).shape == (3, 3)


def _share(model, folder: Path) -> float:
    """How much of two items is in a store; what is not is put into it."""
    own = Once(model, Store(folder))
    model.producers[ENCODER](items(model, 0, 1))
    share = own.values()["stored"]
    own.close()
    return share


def test_one_bit_of_a_weight_or_a_buffer_is_another_key(frozen, tmp_path):
    model = frozen()
    encoder = model.encoders["imu/linear"]
    encoder.register_buffer("scale", torch.ones(()))
    assert [_share(model, tmp_path) for _ in range(2)] == [0.0, 1.0]
    weight = encoder.linear.weight.data
    old = weight[0, 0].clone()
    weight[0, 0] = torch.nextafter(old, torch.tensor(math.inf))
    assert [_share(model, tmp_path) for _ in range(2)] == [0.0, 1.0]
    encoder.scale += 1e-6
    assert _share(model, tmp_path) == 0.0
    encoder.scale.fill_(1.0)
    weight[0, 0] = old
    assert _share(model, tmp_path) == 1.0  # the first weights again, the first keys again


def test_weights_that_change_under_a_store_are_noticed(frozen, tmp_path):
    model = frozen()
    own = Once(model, Store(tmp_path))
    before = model.producers[ENCODER](items(model, 0))
    model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})
    after = model.producers[ENCODER](items(model, 0))
    assert own.values() == {"stored": 0.0}
    assert torch.equal(after, model.encoders["imu/linear"](items(model, 0)))
    assert not torch.equal(after, before)


def test_precision_version_and_configuration_are_in_the_key(frozen, tmp_path, monkeypatch):
    model = frozen()
    assert _share(model, tmp_path) == 0.0
    with torch.autocast("cpu", torch.bfloat16):
        assert [_share(model, tmp_path) for _ in range(2)] == [0.0, 1.0]
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        assert _share(model, tmp_path) == 1.0
    part = model.encoder_parts[0]
    monkeypatch.setattr(model, "encoder_parts", (replace(part, config={**part.config, "width": 9}),))
    assert [_share(model, tmp_path) for _ in range(2)] == [0.0, 1.0]
    monkeypatch.setattr(model, "encoder_parts", (part,))
    assert _share(model, tmp_path) == 1.0
    monkeypatch.setattr(content, "version", lambda spec: "2.0")
    assert _share(model, tmp_path) == 0.0


def test_the_version_is_that_of_the_plugin(monkeypatch):
    from anyany.plugin.records import PluginRecord
    from anyany.plugin.registry import Registry

    own, other = list(imu_plugin.anyany_encoders()), list(imu_plugin.anyany_codecs())
    found = Registry.isolated()
    found._records = [PluginRecord(name="imu", version="1.5", specs=tuple(own))]
    monkeypatch.setattr(content, "registry", lambda: found)
    assert (content.version(own[0]), content.version(other[0])) == ("1.5", "")


# What is never stored.


def test_what_trains_is_never_stored(frozen, tmp_path):
    model = frozen()
    own = Once(model, store := Store(tmp_path))
    encoder = model.encoders["imu/linear"]
    encoder.linear.bias.requires_grad_()
    rows = model.producers[ENCODER](items(model, 0, 1))
    assert rows.requires_grad
    assert (len(store), own.values()) == (0, {})
    encoder.linear.bias.requires_grad_(False)
    assert not model.producers[ENCODER](items(model, 0, 1)).requires_grad
    assert len(store) == 2


class Behind(nn.Sequential):
    """A matrix and what stands behind it; the encoder asks where and of which type its weights are."""

    @property
    def weight(self):
        return self[0].weight


def test_what_drops_is_not_stored_while_it_drops(frozen, tmp_path):
    model = frozen()
    encoder = model.encoders["imu/linear"]
    encoder.linear = Behind(encoder.linear, nn.Dropout(0.5)).requires_grad_(False)
    sober = encoder.eval()(items(model, 0, 1, 2))
    Once(model, store := Store(tmp_path))
    model.text.requires_grad_()
    model.train()
    assert model.text.training
    assert not any(module.training for module in encoder.modules())
    assert torch.equal(model.producers[ENCODER](items(model, 0, 1, 2)), sober)
    assert len(store) == 3
    encoder.linear[1].train()  # deep inside, and by hand
    assert not torch.equal(model.producers[ENCODER](items(model, 3, 4)), encoder.eval()(items(model, 3, 4)))
    assert len(store) == 3


def test_training_leaves_a_frozen_norm_alone(frozen):
    model = frozen()
    model.encoders["imu/linear"].linear = Behind(nn.Linear(3, 8), nn.BatchNorm1d(8)).requires_grad_(False)
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.producers[ENCODER](items(model, 0, 1, 2))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    model.requires_grad_(True).train()
    assert all(module.training for module in model.encoders["imu/linear"].modules())


@pytest.mark.parametrize("promise", ["deterministic", "batched"])
def test_what_depends_on_more_than_the_item_is_not_stored(frozen, tmp_path, monkeypatch, promise):
    model = frozen()
    part = model.encoder_parts[0]
    spec = replace(part.spec, can=replace(part.spec.can, **{promise: False}))
    monkeypatch.setattr(model, "encoder_parts", (replace(part, spec=spec),))
    Once(model, store := Store(tmp_path))
    model.producers[ENCODER](items(model, 0))
    assert len(store) == 0
    model.producers[CODEC](items(model, 0))
    assert len(store) == 1


def test_a_component_that_breaks_its_promise_is_told(frozen, tmp_path):
    model = frozen()
    Once(model, store := Store(tmp_path))
    wrong = [replace(item, rows=item.rows + 1) for item in items(model, 0, 1)]
    with pytest.raises(SpanMismatchError, match=rf"{ENCODER}: 2 items declared 6 rows, produced 4"):
        model.producers[ENCODER](wrong)
    assert len(store) == 0


def test_closing_gives_the_components_back(frozen, tmp_path):
    model = frozen()
    plain = dict(model.producers)
    own = Once(model, Store(tmp_path))
    assert all(model.producers[name] is not plain[name] for name in plain)
    own.close()
    assert model.producers == plain
    assert plain.keys() == {ENCODER, CODEC}


# Runs.


@pytest.mark.parametrize("value", ["", 3, True, ["a"]])
def test_a_store_is_a_folder(recipe, value):
    with pytest.raises(RecipeError, match="store must be the path of a folder"):
        recipe(store=value)


def test_a_store_that_could_hold_nothing_is_refused(recipe, make_model, tmp_path):
    with pytest.raises(RecipeError, match="task codec trains what it encodes with"):
        recipe(task="codec")
    with pytest.raises(RecipeError, match="freeze one, or leave out store"):
        Run(recipe(rates={"": 1e-3}), tmp_path / "run", make_model(modality=False))


def test_the_second_run_reads_and_learns_the_same(recipe, make_model, tmp_path):
    runs = {}
    for folder, changes in (("plain", {"store": None}), ("first", {}), ("second", {})):
        run = runs[folder] = Run(recipe(**changes), tmp_path / folder, make_model())
        run.run()
        assert not any(isinstance(p, once.Looked) for p in run.model.producers.values())
    assert "stored" not in metrics(tmp_path / "plain")[0]
    first, second = ([line["stored"] for line in metrics(tmp_path / f)] for f in ("first", "second"))
    assert first[0] == 0.0
    assert max(first) == 1.0
    assert second == [1.0] * 9
    for name, value in runs["plain"].model.state_dict().items():
        for folder in ("first", "second"):
            assert torch.allclose(runs[folder].model.state_dict()[name], value, atol=1e-5), name


def test_a_run_that_trains_its_encoder_stores_none_of_it(recipe, make_model, tmp_path):
    run = Run(recipe(rates={"encoder/": 1e-3, "head/": 1e-3}), tmp_path / "run", make_model())
    run.run()
    assert {e.name: e.changed for e in run.entries()}[ENCODER]
    model = make_model().requires_grad_(False).eval()
    own = Once(model, Store(tmp_path / "store"))
    model.producers[ENCODER](items(model, *range(5)))
    assert own.values() == {"stored": 0.0}
    model.producers[CODEC]([model.codecs["imu/signs"].prepare(Imu(readings(i))) for i in range(5)])
    assert own.values()["stored"] > 0


def tell_the_batch(model) -> None:
    """Rows that say in which batch they were made, as rounding does, only louder."""
    for component, name in ((model.encoders["imu/linear"], "forward"), (model.codecs["imu/signs"], "encode")):
        plain = getattr(component, name)
        told = lambda batch, plain=plain: plain(batch) * (1 + 0.01 * len(batch))
        setattr(component, name, told)
    model.producers[CODEC] = model.codecs["imu/signs"].encode


@pytest.mark.parametrize(
    ("task", "accumulate", "shard"), [("sequence", 1, 1), ("sequence", 2, 1 << 20), ("bind", 1, 1)]
)
def test_resume_is_exact(recipe, make_model, tmp_path, monkeypatch, task, accumulate, shard):
    """Also where shards are written behind the checkpoint, and where rows depend on their batch."""
    monkeypatch.setattr("anyany.training.loop.Store", lambda folder: Store(folder, shard))
    monkeypatch.setattr("anyany.training.tasks.SCALE_SAMPLES", 7)
    source = {"p": {"factory": f"pairs_of_test_once:{'Bound' if task == 'bind' else 'Pairs'}"}}
    rows = 3 if task == "bind" else 30

    def new(folder):
        model = make_model(kind="flow", rows=5)
        tell_the_batch(model)
        options = {"store": str(tmp_path / folder / "store"), "accumulate": accumulate, "rows": rows}
        return Run(recipe(task=task, sources=source, **options), tmp_path / folder, model)

    whole = new("whole")
    whole.run()
    first = new("parts")
    first.task.begin(first.stream.fresh())
    first.model.train()
    for _ in range(2):
        first.one_step()
    first.save_state()
    first.writer.wait()
    first.one_step()  # lost in the crash, but for the shards that were full
    second = new("parts")
    assert second.resume()
    assert second.step == 2
    second.run()
    assert len(second.once.store) == len(whole.once.store) > 4
    for (name, a), (_, b) in zip(whole.model.state_dict().items(), second.model.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
