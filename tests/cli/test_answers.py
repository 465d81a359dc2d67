"""``anyany generate --dataset``: answers in order, errors in their place, and nothing lost or made twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from anyany import Image
from anyany.cli import answers
from anyany.cli.main import main
from anyany.errors import DataError
from anyany.model import Model, load
from anyany.parts import Message
from anyany.plugin.registry import registry

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def checkpoint(site, make_model, tmp_path):
    site.info("imu-dist", METADATA="Metadata-Version: 2.1\nName: imu-dist\nVersion: 1.0\n",
              entry_points="[anyany]\nimu = imu_plugin\n")  # fmt: skip
    registry.cache_clear()
    make_model().save(tmp_path / "model")
    yield str(tmp_path / "model")
    registry.cache_clear()


def dataset(folder: Path, count: int = 5) -> Path:
    lines = [{"messages": [{"role": "user", "content": f"hello {number}"}]} for number in range(count)]
    path = folder / "prompts.jsonl"
    path.write_text("\n\n".join(map(json.dumps, lines)))
    return path


def generate(checkpoint, file, out, *words) -> int:
    return main(["generate", "--dataset", str(file), "--out", str(out), "--model", checkpoint, "--want", "text",
                 "--max-new-tokens", "4", *words])  # fmt: skip


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def said(line: dict) -> list[tuple[str, str]]:
    return [(part["text"], part["finish"]) for part in line["parts"]]


def test_each_line_is_answered_in_its_place_as_if_alone(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(answers, "BATCH", 2)
    assert generate(checkpoint, dataset(tmp_path), tmp_path / "new" / "a.jsonl", "--seed", "7") == 0
    found = read(tmp_path / "new" / "a.jsonl")
    assert [line["index"] for line in found] == list(range(5))
    model = load(checkpoint, device="cpu")
    for index, line in enumerate(found):
        reply = model.generate([Message("user", (f"hello {index}",))], seed=7 + index, want=["text"], max_new_tokens=4)
        assert line["parts"][0]["text"] == reply.text
        assert (line["finish"], line["usage"]["prompt_rows"]) == (reply.finish, reply.usage.prompt_rows)
    out, err = capsys.readouterr()
    assert out == ""
    assert "5 lines, 0 of them from before, 0 new ones with errors" in err


def test_errors_are_lines_and_move_no_seed(checkpoint, tmp_path):
    """A line that is none, a file that is no picture, and another form; the last answer is as without them."""
    assert generate(checkpoint, dataset(tmp_path), tmp_path / "whole.jsonl") == 0
    (tmp_path / "torn.png").write_bytes(b"\x89PNG no more")
    lines = dataset(tmp_path).read_text().split("\n\n")
    content = [{"type": "image", "path": "torn.png"}]
    lines[1], lines[2] = "{torn", json.dumps({"messages": [{"role": "user", "content": content}]})
    lines[3] = json.dumps({"part": "hello"})
    (tmp_path / "broken.jsonl").write_text("\n".join(lines))
    assert generate(checkpoint, tmp_path / "broken.jsonl", tmp_path / "a.jsonl") == 0
    found, whole = read(tmp_path / "a.jsonl"), read(tmp_path / "whole.jsonl")
    assert [line.get("error", {}).get("code") for line in found] == [None, "bad_data", "unsupported_media",
                                                                     "bad_data", None]  # fmt: skip
    assert "{'messages': [...]}" in found[3]["error"]["message"]
    assert [said(found[i]) for i in (0, 4)] == [said(whole[i]) for i in (0, 4)]


def test_what_is_answered_is_kept_and_a_torn_line_made_again(checkpoint, tmp_path, monkeypatch, capsys):
    file, out = dataset(tmp_path), tmp_path / "a.jsonl"
    assert generate(checkpoint, file, out) == 0
    whole = out.read_bytes()
    second = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    out.write_bytes(whole[: second + 9])
    asked = []
    plain = Model.generate_batch
    monkeypatch.setattr(Model, "generate_batch", lambda *a, **k: asked.extend(a[1]) or plain(*a, **k))
    assert generate(checkpoint, file, out) == 0
    assert len(asked) == 3
    assert out.read_bytes()[:second] == whole[:second]
    assert [said(line) for line in read(out)] == [said(json.loads(line)) for line in whole.splitlines()]
    assert "5 lines, 2 of them from before" in capsys.readouterr().err
    assert generate(checkpoint, file, out) == 0
    assert len(asked) == 3


@pytest.mark.parametrize("words", [["--seed", "3"], ["--temperature", "0"]])
def test_answers_with_other_options_are_not_gone_on_with(checkpoint, tmp_path, capsys, words):
    file, out = dataset(tmp_path), tmp_path / "a.jsonl"
    assert generate(checkpoint, file, out) == 0
    before = out.read_bytes()
    assert generate(checkpoint, file, out, *words) == 1
    assert "line 1: answers another prompt, or one with other options; choose a new file" in capsys.readouterr().err
    assert out.read_bytes() == before
    file.write_text(file.read_text().splitlines()[0])
    assert generate(checkpoint, file, out) == 1  # more answers than prompts
    assert "line 2: answers another prompt" in capsys.readouterr().err


def test_a_file_that_is_no_answers_is_left_alone(tmp_path):
    for text in ("my notes\n", "my notes"):
        (tmp_path / "notes.txt").write_text(text)
        with pytest.raises(DataError, match="not an answer of JSON"):
            answers.kept(tmp_path / "notes.txt", ["a"])
        assert (tmp_path / "notes.txt").read_text() == text
    assert answers.kept(tmp_path / "nothing", ["a"]) == 0


def test_media_of_replies_lie_beside_the_answers(tmp_path):
    from anyany.engine import Usage
    from anyany.model.reply import Reply

    picture = Image(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    reply = Reply(
        parts=("here", picture), finish="stop", finishes=("stop", "length"), logprobs=(-1.0, None), usage=Usage()
    )
    told = answers._told(reply, tmp_path / "a.jsonl", 12)
    assert [part.get("file") for part in told["parts"]] == [None, "a/000012-1-image.png"]
    assert Image.open(tmp_path / "a" / "000012-1-image.png") == picture
    told = answers._told(ZeroDivisionError("of a plugin"), tmp_path / "a.jsonl", 0)
    assert told == {"error": {"code": "error", "message": "ZeroDivisionError: of a plugin"}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a prompt of at least one PART, or --dataset FILE"),
        (["hello", "--dataset", "p.jsonl", "--out", "a.jsonl"], "takes neither a PART"),
        (["--dataset", "p.jsonl"], "needs --out FILE"),
        (["--dataset", "p.jsonl", "--out", "a.jsonl", "--json"], "nor --json"),
    ],
)
def test_a_prompt_or_a_data_set(words, message, capsys):
    assert main(["generate", *words]) == 2
    assert message in capsys.readouterr().err


def test_what_no_line_could_be_answered_with_ends_at_once(checkpoint, tmp_path, capsys):
    assert generate(checkpoint, tmp_path / "absent.jsonl", tmp_path / "a.jsonl") == 1
    assert "dataset: cannot read" in capsys.readouterr().err
    assert generate(checkpoint, dataset(tmp_path), tmp_path / "a.jsonl", "--temperature", "-3") == 1
    assert "temperature" in capsys.readouterr().err
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.slow
def test_a_killed_process_loses_no_line(make_model, tmp_path):
    make_model(modality=False).save(tmp_path / "model")
    file, out = dataset(tmp_path, 200), tmp_path / "a.jsonl"
    command = [sys.executable, "-m", "anyany.cli.main", "generate", "--dataset", str(file), "--out", str(out),
               "--model", str(tmp_path / "model"), "--max-new-tokens", "12"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while running.poll() is None and not (out.exists() and out.stat().st_size):
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    before = out.read_bytes()
    assert 0 < before.count(b"\n") < 200
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"200 lines, {before.count(bytes([10]))} of them from before" in done.stderr
    assert out.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
    assert [line["index"] for line in read(out)] == list(range(200))
