"""The table ``evaluate``: figures while a run trains, which change nothing of it."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
import torch

from anyany.errors import DataError, RecipeError, RequestError
from anyany.eval.own import conversations
from anyany.eval.run import Evaluation
from anyany.parts import Message
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe

WORDS = ("one", "two", "three", "four")


class Next:
    """A word in, the next one out."""

    def __len__(self):
        return len(WORDS)

    def sample(self, index, draw):
        return [Message("user", (WORDS[index],)), Message("assistant", (WORDS[index - 1],))]


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "held-out.jsonl"
    pairs = [(WORDS[index], WORDS[index - 1]) for index in range(4)]
    lines = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in pairs]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])


def recipe(**changes):
    return make_recipe({
        "name": "t", "model": "none", "sources": {"next": {"factory": "test_evaluate:Next"}}, "rates": {"": 3e-3},
        "steps": 6, "rows": 64, "log_every": 2, "checkpoint_every": 2, **changes,
    })  # fmt: skip


def told(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.mark.parametrize("changes", [{}, {"ema": 0.5}, {"lora": {"targets": ["backbone"], "rate": 1e-2}, "rates": {}}])
def test_figures_are_those_of_the_result_and_training_does_not_notice(make_model, tmp_path, data, changes):
    names = ["exact-match", "rouge-l"]
    wanted = {"data": data, "metrics": names, "every": 4, "limit": 3}
    measured = Run(recipe(evaluate=wanted, **changes), tmp_path / "measured", make_model())
    measured.run()
    plain = Run(recipe(**changes), tmp_path / "plain", make_model())
    plain.run()
    for (name, a), (_, b) in zip(*(run.model.state_dict().items() for run in (measured, plain)), strict=True):
        assert torch.equal(a, b), name
    lines = told(tmp_path / "measured", "evaluation.jsonl")
    assert [(line["step"], line["task"], line["n"], *line["figures"]) for line in lines] == [
        (step, "held-out", 3, *names) for step in (4, 6)
    ]
    assert lines[0]["model"] != lines[1]["model"]  # each names the weights that it has seen
    metrics = told(tmp_path / "measured", "metrics.jsonl")
    logged = {line["step"]: line["eval/held-out"] for line in metrics if "eval/held-out" in line}
    assert logged == {line["step"]: line["value"] for line in lines}
    with measured.average.in_place() if measured.average is not None else nullcontext():
        again = Evaluation(measured.model).task("held-out", conversations(data), metrics=names, limit=3)
    last = {key: value for key, value in lines[1].items() if key not in ("step", "seconds")}
    assert last == {key: value for key, value in json.loads(json.dumps(again.to_json())).items() if key != "seconds"}


def test_a_run_that_goes_on_is_measured_where_it_would_have_been(make_model, tmp_path, data):
    wanted = {"data": data, "every": 4}
    first = Run(recipe(evaluate=wanted, steps=2), tmp_path, make_model())
    first.run()
    second = Run(recipe(evaluate=wanted), tmp_path, make_model())
    assert second.resume()
    second.run()
    assert [line["step"] for line in told(tmp_path, "evaluation.jsonl")] == [2, 4, 6]


def test_what_cannot_be_measured_is_told_before_the_first_step(make_model, tmp_path, data):
    for wanted, error, match in (
        ({"tasks": ["image-to-tekst"]}, RequestError, "did you mean 'image-to-text'"),
        ({"data": data, "metrics": ["exact"]}, RequestError, "no metric 'exact'"),
        ({"data": str(tmp_path / "gone.jsonl")}, DataError, "gone.jsonl"),
    ):
        with pytest.raises(error, match=match):
            Run(recipe(evaluate=wanted), tmp_path, make_model())
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({}, "expected tasks"),
        ({"tasks": "image-to-text"}, r"expected tasks = \["),
        ({"tasks": ["a"], "evry": 3}, r"unknown keys \['evry'\]"),
        ({"tasks": ["a"], "every": 0}, "every must be a whole number from 1"),
        ({"tasks": ["a"], "limit": True}, "limit must be a whole number"),
        ({"tasks": ["a"], "metrics": ["exact-match"]}, "metrics are those of data"),
        ({"data": 3}, "expected tasks"),
    ],
)
def test_wrong_tables(wanted, match):
    with pytest.raises(RecipeError, match=match):
        recipe(evaluate=wanted)


def test_shards_answer_no_prompts(data):
    with pytest.raises(RecipeError, match="leave out evaluate, or shard"):
        recipe(evaluate={"data": data}, shard=True)
