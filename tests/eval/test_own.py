"""A user's own data: what is asked, what a good reply is, and lines that are wrong."""

from __future__ import annotations

import json

import pytest

from anyany.cli.main import main
from anyany.errors import DataError
from anyany.eval.own import Conversations, conversations
from anyany.parts import Image


def line(*said):
    roles = ("user", "assistant") * len(said)
    return json.dumps({"messages": [{"role": r, "content": c} for r, c in zip(roles, said, strict=False)]})


@pytest.fixture
def data(tmp_path):
    def write(*lines):
        path = tmp_path / "own.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return write


def test_the_last_message_is_the_reference(data):
    items = Conversations(data(line("a", "b"), "", line("c", "d", "e", "b"), line("f", "g")))
    assert len(items) == 3
    assert [i.references for i in items] == [(("b",),), (("b",),), (("g",),)]
    assert [len(i.prompt) for i in items] == [1, 3, 1]
    assert {i.baseline for i in items} == {("b",)}
    assert items[0].want == ("text",)


def test_media_are_asked_for_as_the_reference_has_them(data, tmp_path):
    Image.from_array([[0.5]]).save(tmp_path / "x.png")
    picture = {"type": "image", "path": "x.png"}
    items = Conversations(data(line("draw", ["here", "it is", picture, "done"]), line("draw", [picture])))
    assert items[0].want == ("text", "image", "text")
    assert items[1].want == ("image",)
    assert items[1].references[0][0] == Image.from_array([[0.5]])
    assert items[1].baseline == ()
    assert conversations(data(line("draw", [picture]))).baseline == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "line 2: not a line of JSON"),
        (line("a"), "line 2: expected 'messages' of which the last is the assistant's"),
        (line("a", "b", "c"), "line 2: expected 'messages' of which the last is the assistant's"),
        (json.dumps({"messages": [{"role": "assistant", "content": "a"}]}), "line 2: expected 'messages'"),
        (json.dumps({"pair": ["a", "b"]}), "line 2: expected 'messages'"),
        (json.dumps({"messages": []}), "line 2: expected a list of messages"),
        (line([{"type": "image", "path": "gone.png"}], "b"), "line 2: .*gone.png"),
    ],
)
def test_a_line_that_is_wrong_is_named(data, text, reason):
    items = Conversations(data(line("a", "b"), text))
    with pytest.raises(DataError, match=f"own.jsonl, {reason}"):
        items[1]
    assert items[0].references == (("b",),)


def test_files_that_are_none(data, tmp_path):
    with pytest.raises(DataError, match="holds no line"):
        Conversations(data(""))
    with pytest.raises(DataError, match="check the path"):
        Conversations(str(tmp_path / "none.jsonl"))


def test_the_command(make_model, tmp_path, data, capsys):
    make_model(modality=False).save(tmp_path / "model")
    path = data(line("hello", "world"), "torn", line("one", "world"))
    words = ["eval", str(tmp_path / "model"), "--data", path, "--max-new-tokens", "3", "--seed", "2"]
    assert main([*words, "--metric", "exact-match", "--metric", "word-error-rate", "--json"]) == 0
    out, err = capsys.readouterr()
    (result,) = json.loads(out).values()
    assert (result["n"], result["failed"], result["seed"]) == (2, 1, 2)
    assert list(result["figures"]) == ["exact-match", "word-error-rate"]
    assert result["baseline"] == "most frequent reference 1.000"
    assert result["options"]["max_new_tokens"] == 3
    assert "1 items failed; item 1: DataError: own.jsonl, line 2" in err
    assert main(words) == 0
    assert "exact-match" in capsys.readouterr().out


def test_the_command_fails_where_nothing_was_measured(make_model, tmp_path, data, capsys):
    make_model(modality=False).save(tmp_path / "model")
    assert main(["eval", str(tmp_path / "model"), "--data", data("torn")]) == 1
    assert "none" in capsys.readouterr().out


def test_wrong_usage(data, capsys):
    assert main(["eval", "--data", data(line("a", "b")), "--task", "decides"]) == 1
    assert "leave out --task" in capsys.readouterr().err


def test_the_list(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["eval", "--list"]) == 0
    out = capsys.readouterr().out
    for word in ("image-to-text", "binding", "exact-match", "word-error-rate", "image/psnr", "motion/joint-error"):
        assert word in out
