"""Samples from JSONL files, as people write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anyany.errors import DataError
from anyany.parts import Audio, Image
from anyany.training.jsonl import Lines
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe

DRAW = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    Image.from_array(np.full((4, 6), 200, np.uint8)).save(tmp_path / "media" / "a.png")
    Audio.from_array(np.ones(80, np.float32) * 0.1, 8000).save(tmp_path / "media" / "a.wav")
    return tmp_path


def write(folder: Path, *lines) -> Lines:
    text = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path = folder / "data.jsonl"
    path.write_bytes("\n".join(text).encode())
    return Lines(str(path))


def test_messages_pairs_and_parts(folder):
    picture = {"type": "image", "path": "media/a.png"}
    lines = write(
        folder,
        {"messages": [
            {"role": "user", "content": [picture, {"type": "text", "text": "Wie heißt das? 🙂"}]},
            {"role": "assistant", "content": "weiß"},
        ]},
        "",
        {"pair": [picture, "white"]},
        {"part": {"type": "audio", "path": "media/a.wav"}},
        "   ",
    )  # fmt: skip
    assert len(lines) == 3
    question, answer = lines.sample(0, DRAW)
    assert [question.role, answer.role] == ["user", "assistant"]
    assert isinstance(question.parts[0], Image)
    assert question.parts[0].pixels.shape == (4, 6, 3)
    assert question.parts[1:] == ("Wie heißt das? 🙂",)
    assert answer.parts == ("weiß",)
    picture, word = lines.sample(1, DRAW)
    assert isinstance(picture, Image)
    assert word == "white"
    assert isinstance(lines.sample(2, DRAW), Audio)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not a line of JSON"),
        ("[" * 5000, "line 2: not a line of JSON"),
        ("3", "expected an object with one of the keys messages, pair, part, got int"),
        ({"text": "x"}, "got text"),
        ({"pair": ["a", "b"], "part": "c"}, "got pair, part"),
        ({"pair": ["a"]}, "expected two parts in a pair, got 1"),
        ({"pair": "ab"}, "expected two parts in a pair, got 1"),
        ({"messages": []}, "expected a list of messages"),
        ({"messages": ["x"]}, "expected a list of messages"),
        ({"messages": [{"role": "judge", "content": "x"}]}, "expected a role among"),
        ({"messages": [{"role": "user"}]}, "expected content"),
        ({"part": {"type": "image", "path": "media/none.png"}}, "none.png"),
        ({"part": {"type": "image", "path": "data.jsonl"}}, "line 2: .*part 0"),
        ({"part": {"type": "image", "url": "https://example.org/a.png"}}, "nothing is fetched"),
        ({"part": {"type": "smell", "path": "a"}}, "expected a 'type'"),
        ({"part": 3}, "expected a string or media, got int"),
    ],
)
def test_a_wrong_line_is_named(folder, line, message):
    lines = write(folder, {"part": "fine"}, line, {"part": "fine too"})
    assert [lines.sample(i, DRAW) for i in (0, 2)] == ["fine", "fine too"]
    with pytest.raises(DataError, match=message) as caught:
        lines.sample(1, DRAW)
    assert str(caught.value).startswith("data.jsonl, line 2: ")


def test_no_file():
    with pytest.raises(DataError, match=r"cannot read nowhere.jsonl: No such file.*check the path"):
        Lines("nowhere.jsonl")


def test_a_run_from_a_file_passes_over_a_broken_line(make_model, folder):
    def said(word):
        return {"messages": [{"role": "user", "content": "which?"}, {"role": "assistant", "content": word}]}

    broken = {"messages": [{"role": "user", "content": [{"type": "image", "path": "media/a.png"}]}]}  # no component
    write(folder, said("one"), broken, said("two"), "{")
    recipe = {
        "name": "lines", "model": "unused", "rates": {"": 1e-3}, "steps": 2, "rows": 64,
        "sources": {"lines": {"factory": "anyany.training.jsonl:Lines", "options": {"path": f"{folder}/data.jsonl"}}},
    }  # fmt: skip
    run = Run(make_recipe({**recipe, "on_broken": "skip"}), folder / "run", make_model())
    run.run()
    reports = [json.loads(line) for line in (folder / "run" / "broken.jsonl").read_text().splitlines()]
    assert sorted((r["source"], r["sample"]) for r in reports) == [("lines", 1), ("lines", 3)]
    assert any("line 4: not a line of JSON" in r["error"] for r in reports)
    with pytest.raises(Exception, match=r"line 4|no component for 'image'"):
        Run(make_recipe(recipe), folder / "strict", make_model()).run()


def test_a_conversation_without_an_answer_is_named(make_model, folder):
    write(folder, {"messages": [{"role": "user", "content": "which?"}, {"role": "user", "content": "one"}]})
    recipe = {
        "name": "lines", "model": "unused", "rates": {"": 1e-3}, "steps": 2, "rows": 64,
        "sources": {"lines": {"factory": "anyany.training.jsonl:Lines", "options": {"path": f"{folder}/data.jsonl"}}},
    }  # fmt: skip
    with pytest.raises(DataError, match=r"source 'lines': a sample has nothing to learn.*'assistant'"):
        Run(make_recipe(recipe), folder / "run", make_model()).run()
