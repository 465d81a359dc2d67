"""Whole runs: killed, stopped, spoilt by a number that is none; and the metrics they write."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from imu_plugin import Imu
from safetensors.torch import load_file

from anyany.errors import CheckpointError, RecipeError
from anyany.parts import Message
from anyany.training import checkpoint
from anyany.training.checkpoint import load_latest
from anyany.training.loop import Run
from anyany.training.metrics import Metrics
from anyany.training.optim import pack_optimizer
from anyany.training.recipe import make_recipe

TESTS = Path(__file__).parent.parent


RUN = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np, torch
    from imu_plugin import Imu
    from anyany.parts import Message
    from anyany.training import checkpoint
    from anyany.training.loop import Run
    from anyany.training.recipe import make_recipe

    class Pairs:
        def __len__(self):
            return 5

        def sample(self, index, draw):
            imu = Imu(draw.normal(size=(3, 3)).astype(np.float32))
            return [Message("user", (f"{index}",)), Message("assistant", ("one", imu))]

    folder, kill = Path(sys.argv[1]), sys.argv[2]
    recipe = make_recipe({
        "name": "killed", "model": "tiny_runs:build", "sources": {"pairs": {"factory": "__main__:Pairs"}},
        "rates": {"": 3e-3}, "steps": 11, "rows": 40, "accumulate": 2, "checkpoint_every": 3, "log_every": 2,
    })
    run = Run(recipe, folder)
    print("from", run.step if run.resume() else 0, run.step)
    die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
    if kill.startswith("step"):
        plain = run.one_step
        def one_step():
            values = plain()
            if run.step == int(kill[4:]):
                run.writer.wait()  # so that the last checkpoint is there
                die()
            return values
        run.one_step = one_step
    if kill == "save":
        plain_sync = checkpoint.sync
        checkpoint.sync = lambda path: die() if run.step >= 6 else plain_sync(path)
    run.run()
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    """Killed in the middle of an epoch, in the middle of a save, right after a save, and at last left alone."""
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    out = _python(script, whole, "never")
    assert out.returncode == 0, out.stderr
    for kill, begun in (("step5", 0), ("save", 3), ("step10", 3), ("never", 9)):
        out = _python(script, parts, kill)
        assert out.returncode == (0 if kill == "never" else -signal.SIGKILL), out.stderr
        assert out.stdout.splitlines()[0].split()[-1] == str(begun), kill
    shards = sorted(p.name for p in (whole / "model").glob("*.safetensors"))
    assert len(shards) > 4
    for shard in shards:
        mine, theirs = load_file(whole / "model" / shard), load_file(parts / "model" / shard)
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert torch.equal(mine[name], theirs[name]), (shard, name)
    mine, theirs = load_latest(whole), load_latest(parts)
    assert mine.step == theirs.step == 11
    assert mine.state == theirs.state
    assert all(torch.equal(mine.tensors[k], theirs.tensors[k]) for k in mine.tensors)
    assert [line["step"] for line in _strict(parts / "metrics.jsonl")][-2:] == [10, 11]


def _strict(path: Path) -> list[dict]:
    """Lines of JSON as any reader takes them: no NaN, no half line."""

    def refuse(word):
        raise ValueError(word)

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


class Pairs:
    def __len__(self) -> int:
        return 4

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        imu = Imu(draw.normal(size=(3, 3)).astype(np.float32))
        return [Message("user", ("one",)), Message("assistant", (imu,) if index % 2 else ("two",))]


@pytest.fixture
def recipe(monkeypatch):
    import types

    module = types.ModuleType("pairs_of_test_checkpoint")
    module.Pairs = Pairs
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(**changes):
        base = {
            "name": "toy", "model": "unused", "sources": {"p": {"factory": f"{module.__name__}:Pairs"}},
            "rates": {"": 3e-3}, "steps": 6, "rows": 20, "checkpoint_every": 2, "log_every": 2,
        }  # fmt: skip
        return make_recipe({**base, **changes})

    return make


def _spoil(run: Run, monkeypatch, step: int) -> None:
    plain = run.task.loss

    def loss(batch, counts):
        value, terms = plain(batch, counts)
        bad = math.nan if run.step == step else 1.0
        return value * bad, {name: term * bad for name, term in terms.items()}

    monkeypatch.setattr(run.task, "loss", loss)


def test_a_step_that_is_not_finite_can_be_skipped(make_model, tmp_path, recipe, monkeypatch):
    run = Run(recipe(on_nan="skip"), tmp_path, make_model())
    _spoil(run, monkeypatch, 2)
    run.run()
    lines = _strict(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [line["skipped"] for line in lines] == [0.0, 0.5, 0.0]
    assert lines[1]["loss"] is None
    assert math.isfinite(lines[2]["loss"])
    for tensor in load_latest(tmp_path).tensors.values():
        assert not tensor.is_floating_point() or tensor.isfinite().all()


def test_a_skipped_step_changes_neither_weights_nor_optimiser(make_model, tmp_path, recipe, monkeypatch):
    run = Run(recipe(on_nan="skip"), tmp_path, make_model())
    run.model.train()
    run.one_step()
    before = {k: v.clone() for k, v in run.model.state_dict().items()} | pack_optimizer(run.optimizer)
    before = {k: v.clone() for k, v in before.items()}
    _spoil(run, monkeypatch, 1)
    assert run.one_step()["skipped"] == 1.0
    after = run.model.state_dict() | pack_optimizer(run.optimizer)
    assert all(torch.equal(before[k], after[k]) for k in before)
    run.batches.close()


def test_a_run_that_skips_all_its_steps_ends(make_model, tmp_path, recipe, monkeypatch):
    """In a row: a good step between begins to count again."""
    run = Run(recipe(on_nan="skip", steps=100, checkpoint_every=1000), tmp_path, make_model())
    plain = run.task.loss

    def loss(batch, counts):
        value, terms = plain(batch, counts)
        return value * (1.0 if run.step == 12 else math.nan), terms

    monkeypatch.setattr(run.task, "loss", loss)
    with pytest.raises(RecipeError, match="step 33: the gradient of 20 steps in a row is not finite"):
        run.run()


def test_a_step_that_is_not_finite_stops_the_run_by_default(make_model, tmp_path, recipe, monkeypatch):
    run = Run(recipe(), tmp_path, make_model())
    _spoil(run, monkeypatch, 3)
    with pytest.raises(RecipeError, match=r"step 4: the gradient is not finite.*on_nan"):
        run.run()
    assert load_latest(tmp_path).step == 2  # what was saved before is untouched


def test_metrics_are_means_of_the_batches_that_have_them(make_model, tmp_path, recipe, monkeypatch):
    """A head that learns in some batches only is not diluted by the others."""
    run = Run(recipe(log_every=3), tmp_path, make_model())
    values = iter([{"loss": 1.0, "imu": 4.0}, {"loss": 2.0}, {"loss": 6.0}, *[{"loss": 1.0}] * 3])

    def one_step():
        run.step += 1
        return next(values)

    monkeypatch.setattr(run, "one_step", one_step)
    run.run()
    lines = _strict(tmp_path / "metrics.jsonl")
    assert [(line["loss"], line.get("imu")) for line in lines] == [(3.0, 4.0), (1.0, None)]


def test_metrics_are_appended_and_valid_json(tmp_path, capsys):
    for start in (0, 10):
        metrics = Metrics(tmp_path, 20, start)
        metrics.log(start + 5, {"loss": 1.5, "odd": math.inf, "head/x": math.nan})
        metrics.close()
    lines = _strict(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["loss"], line["odd"], line["head/x"]) for line in lines] == [
        (5, 1.5, None, None), (15, 1.5, None, None)
    ]  # fmt: skip
    assert "step 5/20" in capsys.readouterr().out


def test_a_checkpoint_that_cannot_be_written_ends_the_run(make_model, tmp_path, recipe, monkeypatch):
    """At the next step that looks, not at the end; the one before stays."""
    plain = checkpoint.write

    def full(folder, saved, *, keep):
        if saved.step == 4:
            raise CheckpointError("training checkpoint of step 4: cannot be written")
        return plain(folder, saved, keep=keep)

    monkeypatch.setattr(checkpoint, "write", full)
    run = Run(recipe(steps=500, checkpoint_every=2), tmp_path, make_model())
    with pytest.raises(CheckpointError, match="step 4: cannot be written"):
        run.run()
    assert run.step <= 6
    assert load_latest(tmp_path).step == 2
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_holds_the_step_it_was_begun_at(make_model, tmp_path, recipe, monkeypatch):
    """Steps that follow while it is being written change nothing in it."""
    plain, go = checkpoint.write, threading.Event()
    monkeypatch.setattr(checkpoint, "write", lambda *a, **k: (go.wait(60), plain(*a, **k))[1])
    run = Run(recipe(), tmp_path, make_model())
    run.model.train()
    run.one_step()
    expected = {f"model.{k}": v.clone() for k, v in run.model.state_dict().items()}
    position = dict(run.position)
    run.save_state()
    run.one_step()
    run.position["given"] = 999
    go.set()
    run.writer.wait()
    found = load_latest(tmp_path)
    assert (found.step, found.state["data"]) == (1, position)
    assert all(torch.equal(found.tensors[name], value) for name, value in expected.items())
    run.batches.close()
    run.writer.close()


def test_a_run_saves_its_last_step_once(make_model, tmp_path, recipe, monkeypatch):
    saved = []
    plain = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda f, s, **k: saved.append(s.step) or plain(f, s, **k))
    Run(recipe(), tmp_path / "even", make_model()).run()
    assert saved == [2, 4, 6]
    Run(recipe(steps=5), tmp_path / "odd", make_model()).run()
    assert saved[3:] == [2, 4, 5]
    assert (tmp_path / "odd" / "model" / "config.json").exists()


def test_a_stop_signal_saves_and_the_run_goes_on_from_there(make_model, tmp_path, recipe):
    run = Run(recipe(checkpoint_every=100), tmp_path, make_model())
    plain = run.one_step

    def one_step():
        values = plain()
        if run.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return values

    run.one_step = one_step
    before = signal.getsignal(signal.SIGTERM)
    run.run()
    assert signal.getsignal(signal.SIGTERM) is before
    assert load_latest(tmp_path).step == 3
    assert not (tmp_path / "model").exists()
    again = Run(recipe(checkpoint_every=100), tmp_path, make_model())
    assert again.resume()
    assert again.step == 3
    again.run()
    assert (tmp_path / "model").exists()


def test_a_run_of_another_recipe_is_not_continued(make_model, tmp_path, recipe):
    Run(recipe(steps=2), tmp_path, make_model()).run()
    for change in ({"seed": 9}, {"rows": 30}, {"rates": {"": 1e-4}}):
        with pytest.raises(RecipeError, match="another"):
            Run(recipe(**change), tmp_path, make_model()).resume()
    assert Run(recipe(steps=9), tmp_path, make_model()).resume()  # longer is no other run


def test_a_damaged_newest_checkpoint_costs_steps_but_not_the_run(make_model, tmp_path, recipe):
    Run(recipe(), tmp_path, make_model()).run()
    whole = {k: v.clone() for k, v in load_latest(tmp_path).tensors.items()}  # not views of a file that is cut below
    (tmp_path / "step-00000006" / "tensors.safetensors").write_bytes(b"")
    shutil.rmtree(tmp_path / "model")
    run = Run(recipe(), tmp_path, make_model())
    with pytest.warns(UserWarning, match="step-00000006"):
        assert run.resume()
    assert run.step == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.run()
    again = load_latest(tmp_path).tensors
    assert all(torch.equal(whole[k], again[k]) for k in whole)


def _python(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
