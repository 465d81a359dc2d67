"""A tracker gets what the file gets, by the name of its package."""

from __future__ import annotations

import json
import math
import re
import sys
import types
from pathlib import Path

import pytest

from anyany.errors import MissingPackageError
from anyany.training.metrics import Metrics, peak_memory
from anyany.training.trackers import Tracker


@pytest.fixture(params=["trackio", "wandb"])
def package(request, monkeypatch):
    """A module with the interface that both have, which writes down its calls."""
    module = types.ModuleType(request.param)
    module.calls = []
    module.init = lambda *, project, name, config: module.calls.append(("init", project, name, config))
    module.log = lambda values, *, step: module.calls.append(("log", step, values))
    module.finish = lambda: module.calls.append(("finish",))
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


def test_it_gets_what_the_file_gets(package, tmp_path):
    metrics = Metrics(tmp_path, 10, 0, Tracker(package.__name__, "toy", {"steps": 10}))
    for step in (5, 10):
        metrics.log(step, {"loss": 1.5, "odd": math.nan})
    metrics.close()
    assert package.calls == [
        ("init", "anyany", "toy", {"steps": 10}), ("log", 5, {"loss": 1.5, "odd": None}),
        ("log", 10, {"loss": 1.5, "odd": None}), ("finish",),
    ]  # fmt: skip
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_package_that_is_not_there_is_named_with_its_command(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=f"tracker '{name}'.*pip install {name}"):
        Tracker(name, "toy", {})


def test_a_line_tells_rates_memory_and_the_time_that_is_left(tmp_path, capsys):
    metrics = Metrics(tmp_path, 10, 0)
    metrics.began -= 20.0  # five steps in twenty seconds
    metrics.log(5, {"loss": 1.5, "rows": 300.0})
    metrics.close()
    words = capsys.readouterr().out.split("  ")
    assert words[:3] == ["step 5/10", "loss 1.5", "rows 300"]
    assert float(words[3].removesuffix(" steps/s")) == pytest.approx(0.25, abs=0.02)
    assert float(words[4].removesuffix(" rows/s")) == pytest.approx(75, abs=4)
    assert float(words[5].removesuffix(" MiB")) > 50  # torch alone takes more
    assert words[6].strip().endswith("min left")


@pytest.mark.skipif(sys.platform != "linux", reason="compared with what Linux tells")
def test_the_peak_is_that_of_the_system():
    told = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert peak_memory() == pytest.approx(int(told[1]) * 1024, rel=0.05)


def test_the_recipe_goes_with_the_run(package, make_model, tmp_path, monkeypatch):
    from anyany.training.loop import Run
    from anyany.training.recipe import make_recipe

    module = types.ModuleType("test_trackers_source")
    module.Source = Source
    monkeypatch.setitem(sys.modules, module.__name__, module)
    recipe = make_recipe({
        "name": "toy", "model": "unused", "sources": {"s": {"factory": "test_trackers_source:Source"}},
        "rates": {"": 1e-3}, "steps": 2, "rows": 40, "log_every": 1, "tracker": package.__name__,
    })  # fmt: skip
    Run(recipe, tmp_path, make_model(modality=False)).run()
    assert [call[0] for call in package.calls] == ["init", "log", "log", "finish"]
    assert package.calls[0][1:] == ("anyany", "toy", recipe.to_json())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for (_, step, values), line in zip(package.calls[1:3], lines, strict=True):
        assert line == {"step": step, "seconds": line["seconds"], **values}


class Source:
    def __len__(self) -> int:
        return 3

    def sample(self, index, draw):
        from anyany.parts import Message

        return [Message("user", ("one",)), Message("assistant", ("two three",))]
