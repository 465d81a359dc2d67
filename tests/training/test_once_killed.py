"""A run with a store, killed and stopped, goes on bit for bit, and its store is that of an uninterrupted run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anyany.training.store import Store

TESTS = Path(__file__).parent.parent


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


RUN = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np, torch
    from imu_plugin import Imu
    from anyany.parts import Message
    from anyany.training.loop import Run
    from anyany.training.recipe import make_recipe

    class Pairs:
        def __len__(self):
            return 31

        def sample(self, index, draw):
            imu = Imu(np.random.default_rng(index).normal(size=(3, 3)).astype(np.float32))
            return [Message("user", (f"{index}", imu)), Message("assistant", ("one", imu))]

    folder, store, kill = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    recipe = make_recipe({
        "name": "killed", "model": "tiny_runs:build", "sources": {"pairs": {"factory": "__main__:Pairs"}},
        "rates": {"": 3e-3, "encoder/": 0.0}, "steps": 11, "rows": 90, "checkpoint_every": 3, "log_every": 1,
        "store": store,
    })
    run = Run(recipe, folder)
    print("from", run.step if run.resume() else 0, run.step)
    plain = run.one_step
    def one_step():
        values = plain()
        if run.step == kill:
            run.writer.wait()  # so that the last checkpoint is there
            os.kill(os.getpid(), signal.SIGTERM if kill == 10 else signal.SIGKILL)
        return values
    run.one_step = one_step
    run.run()
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit_with_its_store(tmp_path):
    """Killed, stopped and left alone, each process with another hash seed; then a run that finds all of it."""
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))

    def run(folder: str, store: str, kill: int, seed: int) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        environment["PYTHONPATH"] = f"{TESTS}{os.pathsep}{environment.get('PYTHONPATH', '')}"
        command = [sys.executable, str(script), str(tmp_path / folder), str(tmp_path / store), str(kill)]
        out = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
        assert out.returncode == (-signal.SIGKILL if kill not in (0, 10) else 0), out.stderr
        return out.stdout.splitlines()[0].split()[-1]

    run("whole", "whole-store", 0, 1)
    assert [run("parts", "parts-store", kill, kill + 2) for kill in (5, 10, 0)] == ["0", "3", "10"]
    assert min(line["stored"] for line in metrics(tmp_path / "whole")) < 1.0  # some had to be made first
    run("again", "whole-store", 0, 9)
    assert [line["stored"] for line in metrics(tmp_path / "again")] == [1.0] * 11
    shards = sorted(p.name for p in (tmp_path / "whole" / "model").glob("*.safetensors"))
    assert len(shards) > 4
    for shard in shards:
        mine, theirs = (load_file(tmp_path / f / "model" / shard) for f in ("whole", "parts"))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), shard
    mine, theirs = Store(tmp_path / "whole-store"), Store(tmp_path / "parts-store")
    assert mine.where.keys() == theirs.where.keys()
    found = theirs.find(mine.where)
    assert all(torch.equal(rows, found[key]) for key, rows in mine.find(mine.where).items())
