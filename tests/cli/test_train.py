"""``anyany train``: a recipe and its changes become a model in a folder."""

from __future__ import annotations

import json
import sys

import pytest

from anyany.cli.main import main
from anyany.model import load

SOURCE = """
from anyany.parts import Message

class Greetings:
    def __init__(self, words=("one", "two")):
        self.words = words

    def __len__(self):
        return len(self.words)

    def sample(self, index, draw):
        return [Message("user", ("hello",)), Message("assistant", (self.words[index],))]
"""

RECIPE = """
name = "toy"
model = "base"
steps = 2
rows = 64
log_every = 1
[sources.greetings]
factory = "toy_greetings:Greetings"
[rates]
"" = 1e-3
"""


@pytest.fixture
def workplace(make_model, tmp_path, monkeypatch):
    """A folder with a recipe, its data and the model where it starts; the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "toy_greetings.py").write_text(SOURCE)
    (tmp_path / "toy.toml").write_text(RECIPE)
    make_model(modality=False).save("base")
    yield tmp_path
    sys.modules.pop("toy_greetings", None)


def test_a_recipe_is_run_in_a_folder_of_its_name(workplace, capsys):
    assert main(["train", "toy.toml"]) == 0
    out = capsys.readouterr().out
    recipe, end = json.JSONDecoder().raw_decode(out)
    assert recipe["name"] == "toy"
    assert recipe["weight_decay"] == 0.05  # all of it, defaults too
    assert "step 2/2" in out[end:]
    assert out.endswith(f"model: {'runs/toy/model'}\n")
    trained, base = load("runs/toy/model", device="cpu"), load("base", device="cpu")
    assert any((a != b).any() for a, b in zip(trained.parameters(), base.parameters(), strict=True))


def test_changes_and_folder_come_from_the_command_line(workplace, capsys):
    words = ["train", "toy.toml", "steps=1", "rates.text=0.0", 'sources.greetings.options.words=["three"]']
    assert main([*words, "--out", "elsewhere"]) == 0
    out = capsys.readouterr().out
    recipe, _ = json.JSONDecoder().raw_decode(out)
    assert (recipe["steps"], recipe["rates"]["text"]) == (1, 0.0)
    assert "step 1/1" in out
    assert json.loads((workplace / "elsewhere" / "recipe.json").read_text()) == recipe
    assert not (workplace / "runs").exists()


def test_the_same_command_goes_on(workplace, capsys):
    assert main(["train", "toy.toml"]) == 0
    assert main(["train", "toy.toml", "steps=3"]) == 0
    assert "step 3/3" in capsys.readouterr().out
    lines = (workplace / "runs" / "toy" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_a_run_that_was_stopped_says_so(workplace, capsys, monkeypatch):
    from anyany.training.loop import Run

    step = Run.one_step

    def stopped(self):
        self.asked = True
        return step(self)

    monkeypatch.setattr(Run, "one_step", stopped)
    assert main(["train", "toy.toml"]) == 1
    assert "stopped at step 1; the same command goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.toml"], "no file absent.toml"),
        (["toy.toml", "stepz=3"], "did you mean 'steps'?"),
        (["toy.toml", "steps"], "expected key=value"),
        (["toy.toml", "steps=0"], "steps must be"),
        (["toy.toml", "model=nowhere"], "nothing at nowhere"),
        (["toy.toml", "sources.greetings.factory=toy_greetings:Absent"], "cannot be imported"),
    ],
)
def test_typed_errors_are_1(workplace, capsys, words, message):
    assert main(["train", *words]) == 1
    assert message in capsys.readouterr().err


def test_the_current_folder_hides_nothing_that_is_installed(workplace):
    (workplace / "json.py").write_text("raise RuntimeError('shadowed')")
    before = list(sys.path)
    assert main(["train", "toy.toml", "steps=1"]) == 0
    assert sys.path[: len(before)] == before
