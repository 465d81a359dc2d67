"""Workers: the same bits as without them, and no hang when one of them fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from anyany.errors import DataError, MediaDecodeError, RecipeError
from anyany.model.handing import ByValue
from anyany.parts import Image
from anyany.training.data import Stream, build_sources
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe
from anyany.training.tasks import Planned
from anyany.training.workers import WAITING, Workers, _light

TESTS = Path(__file__).parent.parent
MODULE = """
    import os, signal
    import numpy as np
    from imu_plugin import Imu
    from anyany.errors import MediaDecodeError
    from anyany.parts import Message

    class Pairs:
        def __init__(self, fault=None, parent=0):
            self.fault = fault
            if fault == "built" and os.getpid() != parent:
                raise OSError("no such disk")

        def __len__(self):
            return 7

        def sample(self, index, draw):
            if index == 3 and self.fault == "broken":
                raise MediaDecodeError("sample 3 is damaged", code="worn")
            if index == 3 and self.fault == "raises":
                return {}["absent"]
            if index == 3 and self.fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            imu = Imu(draw.normal(size=(1 + index, 3)).astype(np.float32))
            parts = (imu, "one" * index) if draw.random() < 0.5 else ("two", imu)
            return [Message("user", parts), Message("assistant", (imu, "three"))]
"""
WEIGHTS = {"pairs": 1.0, "more": 0.5}


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "worker_pairs.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("worker_pairs", None)


def sources(**options):
    return {
        "pairs": {"factory": "worker_pairs:Pairs", "options": options},
        "more": {"factory": "worker_pairs:Pairs", "weight": 0.5},
    }


def stream(planner, workers: int, broken=None, **options) -> tuple[Stream, Workers | None]:
    make = Planned(planner, 64)
    pool = Workers(sources(**options), 3, make, workers) if workers else None
    built = build_sources(sources(**options))
    return Stream(built, WEIGHTS, 3, make, broken, None if pool is None else pool.results), pool


def plain(document) -> list:
    """Everything that a document holds, bytes for arrays."""
    out = []
    for piece in document.pieces:
        arrays = {} if piece.prepared is None else piece.prepared.arrays
        out.append((repr(piece.span), piece.ids, piece.learn, piece.media and piece.media.key(),
                    [(k, v.dtype, v.shape, v.tobytes()) for k, v in arrays.items()]))  # fmt: skip
    return out


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same(make_model):
    planner = make_model().planner
    told: dict[int, list] = {}
    found = {}
    for workers in (0, 1, 2):
        reports = told.setdefault(workers, [])
        s, pool = stream(planner, workers, lambda *r, to=reports: to.append((*r[:2], type(r[2]), str(r[2]), r[2].code)),
                         fault="broken")  # fmt: skip
        first = [plain(s.take()) for _ in range(150)]
        middle = dict(s.taken)
        s.look(5)
        second = [plain(s.take()) for _ in range(20)]
        s.restart(middle)  # while others are still being made
        found[workers] = first, second, [plain(s.take()) for _ in range(20)], s.taken
        if pool is not None:
            assert len(pool.pending) < WAITING * workers
            pool.close()
            assert not any(p.is_alive() for p in pool.processes)
    assert found[0] == found[1] == found[2]
    assert found[0][1] == found[0][2]
    seen = {report for reports in told.values() for report in reports}
    assert seen == {("pairs", 3, MediaDecodeError, "sample 3 is damaged", "worn")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("dies", r"worker \d died with exit code -9 at source 'pairs', sample 3"),
        ("raises", r"worker \d, source 'pairs', sample 3: KeyError: 'absent'"),
        ("built", r"worker \d, source '\w+', sample \d: OSError: no such disk"),
    ],
)
def test_a_worker_that_fails_ends_the_run(make_model, tmp_path, fault, message):
    recipe = make_recipe({
        "name": "w", "model": "unused", "rates": {"": 1e-3}, "steps": 50, "rows": 64, "workers": 2,
        "sources": sources(fault=fault, parent=os.getpid()), "on_broken": "skip",
    })  # fmt: skip
    run = Run(recipe, tmp_path / "run", make_model())
    with pytest.raises(DataError, match=message) as caught:
        run.run()
    if fault == "raises":
        assert "worker_pairs.py" in caught.value.__notes__[0]
    assert len(run.workers.processes) == 2
    assert not any(process.is_alive() for process in run.workers.processes)


@pytest.mark.slow
def test_resume_is_exact_with_and_without_workers(make_model, tmp_path):
    """Stopped in the middle of an epoch and of a group, inside accumulation; the number of workers may change."""

    def new(folder: str, workers: int, steps: int) -> Run:
        recipe = make_recipe({
            "name": "w", "model": "unused", "rates": {"": 1e-3}, "steps": steps, "rows": 40, "workers": workers,
            "accumulate": 3, "sources": sources(), "schedule": "constant",
        })  # fmt: skip
        return Run(recipe, tmp_path / folder, make_model(kind="flow", rows=3, fixed=False))

    weights = []
    for folder, counts in (("none", (0, 0)), ("two", (2, 2)), ("changed", (2, 0))):
        first = new(folder, counts[0], 3)
        first.run()
        assert first.position["given"] == 9  # of the 16 batches of a group
        second = new(folder, counts[1], 7)
        assert second.resume()
        second.run()
        weights.append(second.model.state_dict() | {"random": torch.get_rng_state()})
    whole = new("whole", 0, 7)
    whole.run()
    for found in weights:
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, found[name]), name


def test_what_cannot_be_handed_over_is_an_error(make_model):
    make = Planned(make_model().planner, 64)
    make.planner.codecs["imu"][1].hook = lambda: None
    pool = Workers(sources(), 0, make, 1)
    with pytest.raises(RecipeError, match=r"cannot hand tuple to another process.*set workers = 0"):
        next(pool.results(iter(())))
    assert not pool.processes


def test_a_planner_goes_over_without_weights_and_plans_the_same(make_model, tokenizer):
    from multiprocessing.reduction import ForkingPickler

    from imu_plugin import Imu

    from anyany.parts import Message

    planner = make_model().planner
    before = {n: p.clone() for n, p in planner.encoders["imu"][1].named_parameters()}
    copied = ForkingPickler.loads(ByValue.dumps(_light(Planned(planner, 64)))).planner
    assert before
    assert all(p.device.type == "meta" for p in copied.encoders["imu"][1].parameters())
    assert all(torch.equal(p, before[n]) for n, p in planner.encoders["imu"][1].named_parameters())
    imu = Imu(np.ones((3, 3), np.float32))
    for text in ("one two", "<|endoftext|>", "[UNK]"):
        said = [Message("user", (imu, text)), Message("assistant", (imu,))]
        assert plain(planner.plan(said, train=True)) == plain(copied.plan(said, train=True))


def test_special_tokens_stay_text_and_arrays_stay_as_they_are_in_another_process(tokenizer):
    from multiprocessing.reduction import ForkingPickler

    from tokenizers import Tokenizer

    from anyany.model import TextTokenizer

    backend = Tokenizer.from_str(tokenizer.backend.to_str())
    backend.add_special_tokens(["<special>"])
    mine = TextTokenizer(backend)
    theirs = ForkingPickler.loads(ByValue.dumps(mine))
    assert theirs.encode("a <special> b") == mine.encode("a <special> b")
    assert backend.token_to_id("<special>") not in theirs.encode("<special>")
    image = ForkingPickler.loads(ByValue.dumps(Image.from_array(np.ones((2, 2)))))
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0, 0] = 3


RUN = """
    import sys
    from pathlib import Path
    import imu_plugin, torch
    from anyany.backbone import BackboneConfig
    from anyany.model import TextTokenizer, compose
    from anyany.plugin.registry import Registry
    from anyany.training.loop import Run
    from anyany.training.recipe import make_recipe

    def build():
        plugins = Registry.isolated()
        plugins.register(imu_plugin, "imu")
        return compose(backbone=BackboneConfig(width=16, layers=1, heads=2), encoders=["imu/linear"], plugins=plugins,
                       tokenizer=TextTokenizer.train(["one two three"], 270), decoders=[{"id": "imu/signs"}])

    if __name__ == "__main__":
        recipe = make_recipe({
            "name": "w", "model": "__main__:build", "sources": {"pairs": {"factory": "worker_pairs:Pairs"}},
            "rates": {"": 1e-3}, "steps": 1000000, "rows": 64, "workers": 2, "log_every": 1,
        })
        run = Run(recipe, Path(sys.argv[1]))
        run.resume()
        run.run()
        print("stopped", run.step, [process.exitcode for process in run.workers.processes])
"""


@pytest.mark.slow
@pytest.mark.parametrize("everyone", [False, True], ids=["the run", "the whole group"])
def test_a_stop_signal_ends_the_workers_too(tmp_path, everyone):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), str(tmp_path), *sys.path])}
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "run")], stdout=out, stderr=out, env=environment,
            start_new_session=True,
        )  # fmt: skip
        metrics = tmp_path / "run" / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.read_text()):
            time.sleep(0.1)
        (os.killpg if everyone else os.kill)(process.pid, signal.SIGTERM)
        assert process.wait(timeout=120) == 0, (tmp_path / "out").read_text()
    assert "stopped" in (tmp_path / "out").read_text()
    assert "[-9, -9]" in (tmp_path / "out").read_text()
    assert load_file(next((tmp_path / "run").glob("step-*/tensors.safetensors")))
