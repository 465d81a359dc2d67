"""``anyany generate --dataset --ray``: the answers of one process, also where a worker is killed."""

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

import anyany
from anyany import Image
from anyany.backbone import BackboneConfig
from anyany.cli import ray_workers
from anyany.cli.main import main
from anyany.errors import MissingPackageError
from anyany.model import TextTokenizer

ROOT = Path(__file__).parent.parent.parent
TOKENS = 24


@pytest.fixture
def checkpoint(tmp_path) -> str:
    tokenizer = TextTokenizer.train(["hello world, one two three four five"] * 4, 280)
    model = anyany.compose(
        backbone=BackboneConfig(width=32, layers=2, heads=4), tokenizer=tokenizer,
        encoders=[{"id": "image/patch", "config": {"width": 24, "depth": 1, "heads": 2}}],
        decoders=[{"id": "image/fsq", "config": {"width": 16}}],
    )  # fmt: skip
    model.save(tmp_path / "model")
    return str(tmp_path / "model")


def prompts(folder: Path, count: int) -> Path:
    """Some with a picture, one whose file is gone, one that is no text."""
    Image.from_array(np.random.default_rng(0).uniform(size=(28, 28))).save(folder / "a.png")
    lines: list[bytes] = []
    for number in range(count):
        content = [f"hello {number}", *([{"type": "image", "path": "a.png"}] if number % 3 == 0 else [])]
        lines.append(json.dumps({"messages": [{"role": "user", "content": content}]}).encode())
    lines[4] = lines[4].replace(b'"hello 4"', b'{"type": "image", "path": "gone.png"}')
    lines[7] = b"\xff\xfe"
    (folder / "prompts.jsonl").write_bytes(b"\n".join(lines))
    return folder / "prompts.jsonl"


def words(checkpoint: str, file: Path, out: Path, *more: str) -> list[str]:
    return ["generate", "--dataset", str(file), "--out", str(out), "--model", checkpoint, "--want", "text,image",
            "--max-new-tokens", str(TOKENS), "--temperature", "1", "--seed", "5", *more]  # fmt: skip


def start(checkpoint: str, file: Path, out: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "anyany.cli.main", *words(checkpoint, file, out, "--ray", "2")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers() -> list[int]:
    """Processes of Ray that answer."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            title = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
        except OSError:
            continue
        if title.startswith(b"ray::") and b"MapWorker" in title:
            found.append(int(folder.name))
    return found


def until(condition, seconds: float = 120.0):
    """What a condition gives as soon as it holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


def answers(file: Path) -> list[dict]:
    """Without times, and without log-probabilities: another number of threads changes their last bits."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line.get("usage", {}).pop("seconds", None)
        for part in line.get("parts", ()):
            part.pop("logprob")
    return lines


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
@pytest.mark.parametrize("killed", [False, True])
def test_workers_answer_what_one_process_answers(checkpoint, tmp_path, killed):
    pytest.importorskip("ray")
    file = prompts(tmp_path, 200 if killed else 40)
    assert main(words(checkpoint, file, tmp_path / "here" / "answers.jsonl")) == 0
    out = tmp_path / "there" / "answers.jsonl"
    running = start(checkpoint, file, out)
    if killed:
        victim = until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 16 and workers())[0]
        os.kill(victim, signal.SIGKILL)
        assert out.read_bytes().count(b"\n") < 200  # there was something left to lose
    _, said = running.communicate(timeout=240)
    assert running.returncode == 0, said
    assert answers(out) == answers(tmp_path / "here" / "answers.jsonl")
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "here" / "answers").iterdir()}
    assert drawn == {path.name: path.read_bytes() for path in (tmp_path / "there" / "answers").iterdir()}
    assert len(drawn) == (198 if killed else 38)
    assert [line["index"] for line in answers(out) if "error" in line] == [4, 7]


def test_without_ray(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match="anyany\\[ray\\]"):
        next(iter(ray_workers.answered(lambda: None, None, [{0: b""}], 1)))
    assert main(words(checkpoint, prompts(tmp_path, 9), tmp_path / "a.jsonl", "--ray", "2")) == 1
    assert "anyany[ray]" in capsys.readouterr().err


def test_usage(tmp_path, capsys):
    assert main(["generate", "hello", "--ray", "2"]) == 2
    assert "shares the lines of --dataset" in capsys.readouterr().err
    assert main(words("mini", tmp_path / "p.jsonl", tmp_path / "a.jsonl", "--ray", "-1")) == 2
    assert "at least one worker" in capsys.readouterr().err
