"""``python -O`` drops asserts; training must not lean on one."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
RUN = """
    import sys
    from pathlib import Path
    from anyany.backbone import BackboneConfig
    from anyany.errors import RecipeError
    from anyany.model import TextTokenizer, compose
    from anyany.parts import Message
    from anyany.training.loop import train
    from anyany.training.recipe import make_recipe

    if __debug__:
        sys.exit("not optimised")

    class Source:
        def __len__(self):
            return 3

        def sample(self, index, draw):
            return [Message("user", ("one",)), Message("assistant", ("two three",))]

    def build():
        config = BackboneConfig(width=16, layers=1, heads=2)
        return compose(backbone=config, tokenizer=TextTokenizer.train(["one two three"], 270))

    given = {
        "name": "tiny", "model": "__main__:build", "sources": {"s": {"factory": "__main__:Source"}},
        "rates": {"": 1e-2}, "steps": 4, "rows": 40, "accumulate": 2, "log_every": 1, "checkpoint_every": 2,
        "ema": 0.9, "recompute": True,
    }
    folder = Path(sys.argv[1])
    print(train(make_recipe(given), folder).step)
    print(train(make_recipe({**given, "steps": 6}), folder).step)
    try:
        train(make_recipe({**given, "seed": 9}), folder)
    except RecipeError as error:
        print(error.code)
"""


@pytest.mark.slow
def test_a_run_without_asserts(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-O", str(script), str(tmp_path / "run")]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert out.returncode == 0, out.stderr
    assert [line for line in out.stdout.splitlines() if not line.startswith("step ")] == ["4", "6", "bad_recipe"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["loss"] < lines[0]["loss"]
