"""Checkpoints written by a thread: one at a time, errors surface, and kills at random moments spoil none."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch

from anyany.errors import CheckpointError
from anyany.training import checkpoint
from anyany.training.checkpoint import load_latest, snapshot
from anyany.training.writer import Writer

TESTS = Path(__file__).parent.parent


def state(step: int) -> checkpoint.Snapshot:
    return snapshot(step, {"w": torch.full((9,), float(step))}, {"step": step})


def test_what_was_begun_is_written_and_older_ones_go(tmp_path):
    writer = Writer(tmp_path, keep=2)
    for step in (1, 2, 3):
        writer.wait()
        writer.write(state(step))
    writer.wait()
    writer.check()  # nothing is left to tell
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000002", "step-00000003"]
    assert load_latest(tmp_path).tensors["w"].tolist() == [3.0] * 9
    writer.close()


def test_training_goes_on_while_it_is_written(tmp_path, monkeypatch):
    go, plain = threading.Event(), checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *a, **k: (go.wait(60), plain(*a, **k))[1])
    writer = Writer(tmp_path, keep=1)
    writer.write(state(1))  # comes back although nothing can be written yet
    writer.check()
    assert load_latest(tmp_path) is None
    go.set()
    writer.wait()
    assert load_latest(tmp_path).step == 1
    writer.close()


@pytest.mark.parametrize("ask", ["check", "wait"])
def test_an_error_is_told_once_and_the_next_one_is_written(tmp_path, ask):
    blocked = tmp_path / "run"
    blocked.write_text("a file where the folder should be")
    writer = Writer(blocked, keep=1)
    writer.write(state(1))
    if ask == "check":
        with pytest.raises(CheckpointError):  # noqa: PT012
            while True:
                writer.check()
    else:
        with pytest.raises(CheckpointError, match=r"step 1: cannot be written to .*run: .*exists"):
            writer.wait()
    writer.check()
    blocked.unlink()
    writer.write(state(2))
    writer.wait()
    assert load_latest(blocked).step == 2
    writer.close()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_access(tmp_path):
    tmp_path.chmod(0o500)
    writer = Writer(tmp_path, keep=1)
    writer.write(state(1))
    with pytest.raises(CheckpointError, match="Permission denied"):
        writer.wait()
    writer.close()
    tmp_path.chmod(0o700)


KILLED = """
    import os, random, signal, sys, time, warnings
    from pathlib import Path
    import torch
    from anyany.training.checkpoint import load_latest, snapshot, write
    from anyany.training.writer import Writer

    warnings.simplefilter("error")  # a kill alone damages nothing
    folder, way, draw = Path(sys.argv[1]), sys.argv[2], random.Random(3)

    def tensors(step):
        return {"w": torch.full((50_000,), float(step)), "v": torch.full((3,), float(step))}

    def child(step, told):
        writer = Writer(folder, keep=2)
        while True:
            if way == "thread":
                writer.wait()
                os.write(told, f"{step - 1}\\n".encode())
                writer.write(snapshot(step, tensors(step), {"step": step}))
            else:
                write(folder, snapshot(step, tensors(step), {"step": step}), keep=2)
                os.write(told, f"{step}\\n".encode())
            step += 1

    write(folder, snapshot(0, tensors(0), {"step": 0}))
    last, states = 0, set()
    for _ in range(30):
        hear, told = os.pipe()
        pid = os.fork()
        if not pid:
            child(last + 1, told)
        os.close(told)
        begun = os.read(hear, 100)  # the first save is over, or under way
        time.sleep(draw.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(hear, "rb") as file:
            committed = int((begun + file.read()).split()[-1])
        found = load_latest(folder)
        if not committed <= found.step <= committed + 1 or found.state != {"step": found.step}:
            sys.exit(f"committed {committed}, found {found.step}: {found.state}")
        if not all((value == found.step).all() for value in found.tensors.values()):
            sys.exit(f"the tensors of step {found.step} are of another one")
        states.add(tuple(sorted(p.suffix for p in folder.iterdir())))
        last = found.step
    print(last, len(states))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("way", ["thread", "at once"])
def test_thirty_kills_at_random_moments(tmp_path, way):
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    (tmp_path / "run").mkdir()
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(script), str(tmp_path / "run"), way]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert out.returncode == 0, out.stderr
    last, states = map(int, out.stdout.split())
    assert last >= 15  # saves did happen between the kills
    assert states > 1  # and kills fell into them
