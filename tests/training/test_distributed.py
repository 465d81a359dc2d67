"""Two ranks take the steps of one process, whatever each of them has in its batches; and they stop together."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from anyany.errors import DistributedError, RecipeError
from anyany.training.checkpoint import load_latest
from anyany.training.distributed import ALONE, World, buckets, joined, numbers
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RANKS = HERE / "ranks.py"

MEDIA = {"model": "media", "rows": 256}
LORA = {"targets": ["backbone", "encoder/"], "rate": 1e-2}
CASES = {
    "noise, average, clipped": {"changes": {"accumulate": 4, "ema": 0.9, "clip": 0.05}},
    "text here, media there": {"changes": MEDIA, "unlike": True},
    "adapter": {"changes": {**MEDIA, "lora": LORA}, "unlike": True},
    "frozen": {"changes": {**MEDIA, "rates": {"projector/": 1e-2}}, "unlike": True},
    "a loss that is none": {"changes": {"on_nan": "skip", "steps": 4}, "spoil": 1},
    "codec": {"changes": {"model": "media", "task": "codec", "rows": 3, "rates": {"codec/": 3e-3},
                          "sources": {"s": {"factory": "ranks:Pictures"}}}},
    "bind": {"changes": {"task": "bind", "rows": 3, "rates": {"encoder/": 3e-3, "projector/": 3e-3, "text": 3e-3},
                         "sources": {"s": {"factory": "ranks:Named"}}}},
    "shards": {"changes": {"shard": True, "accumulate": 4, "ema": 0.9, "clip": 0.05, "recompute": True}},
    "shards, unlike": {"changes": {**MEDIA, "shard": True}, "unlike": True},
    "shards, adapter": {"changes": {**MEDIA, "shard": True, "lora": LORA}, "unlike": True},
    "shards, frozen": {"changes": {**MEDIA, "shard": True, "rates": {"projector/": 1e-2}}, "unlike": True},
    "shards, a loss that is none": {"changes": {"shard": True, "on_nan": "skip", "steps": 4}, "spoil": 1},
}  # fmt: skip
SIX = {"steps": 6, "checkpoint_every": 100}


def environment(**changes: str) -> dict[str, str]:
    paths = [ROOT, ROOT / "tests", HERE, *sorted((ROOT / "plugins").iterdir())]
    own = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return {**os.environ, **own, **changes}


def alone(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RANKS), *map(str, words)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)


def torchrun(*words: object, script: Path | None = RANKS, **options: object) -> subprocess.CompletedProcess[str]:
    program = [] if script is None else [str(script)]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *program, *map(str, words)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, **options)  # type: ignore[call-overload]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def two(*words: object) -> list[subprocess.Popen[str]]:
    """Two ranks without ``torchrun``, which would end one when the other fails."""
    port = str(free_port())
    return [
        subprocess.Popen(
            [sys.executable, str(RANKS), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment(WORLD_SIZE="2", RANK=str(rank), MASTER_ADDR="localhost", MASTER_PORT=port),
        )
        for rank in range(2)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """All cases in one process and on two ranks; and runs that change from one to two and back."""
    folder = tmp_path_factory.mktemp("ranks")
    stages = [
        ("one", alone, {**CASES, "whole": {"changes": SIX}}),
        ("two", torchrun, CASES),
        ("moved", alone, {name: {"changes": SIX, "until": 2} for name in ("copies", "parts")}),
        ("moved", torchrun, {name: {"changes": {**SIX, "shard": name == "parts"}, "until": 4}
                             for name in ("copies", "parts")}),
        ("moved", alone, {name: {"changes": SIX} for name in ("copies", "parts")}),
    ]  # fmt: skip
    for name, start, cases in stages:
        (folder / "cases.json").write_text(json.dumps(cases))
        done = start(folder / name, "parity", folder / "cases.json")
        assert done.returncode == 0, done.stderr
        (folder / f"{name}.txt").write_text(done.stdout)
    return folder


def told(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_take_the_steps_of_one_process(runs, case):
    steps = CASES[case]["changes"].get("steps", 3)
    one, first, second = (
        told(runs / "one" / case, f"rank0-of-1-{steps}"),
        told(runs / "two" / case, f"rank0-of-2-{steps}"),
        told(runs / "two" / case, f"rank1-of-2-{steps}"),
    )
    assert len(first["digests"]) > 4
    assert first["digests"] == second["digests"]
    for key in ("losses", "norms"):
        assert list(one[key]) == [str(step + 1) for step in range(steps)]
        assert list(first[key].values()) == list(second[key].values()) or "none" in case  # NaN is not itself
        assert list(first[key].values()) == pytest.approx(list(one[key].values()), rel=1e-4, nan_ok=True)
    gradients, expected = (load_file(runs / which / case / "gradients.safetensors") for which in ("two", "one"))
    assert gradients.keys() == expected.keys()
    largest = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5 * largest, msg=f"{case} {name}")
    files = sorted(
        (runs / "one" / case).glob("[am]*/*.safetensors")
    )  # adapter and model: the average where there is one
    assert files
    for file in (runs / "one" / case / "weights.safetensors", *files):
        assert apart(runs / "two" / case / file.relative_to(runs / "one" / case), file) < 1e-4, file


def apart(one: Path, other: Path) -> float:
    """Root of the mean square of what differs. A step is 3e-3, and where a gradient is all rounding, AdamW goes
    either way."""
    weights, expected = load_file(one), load_file(other)
    assert weights.keys() == expected.keys()
    moved = [(weights[name].double() - w.double()).reshape(-1) for name, w in expected.items()]
    return float(torch.cat(moved).square().mean().sqrt()) if moved else 0.0


@pytest.mark.slow
@pytest.mark.parametrize("case", ["a loss that is none", "shards, a loss that is none"])
def test_a_rank_whose_loss_is_none_makes_all_skip_the_step(runs, case):
    lines = [json.loads(line) for line in (runs / "two" / case / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines] == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.slow
def test_what_one_rank_alone_has_reaches_the_result(runs):
    """Of what trains there, rank 0, which has text alone, has no gradient at all."""
    gradients = load_file(runs / "two" / "frozen" / "gradients.safetensors")
    assert gradients
    assert all("projector/" in name and gradient.any() for name, gradient in gradients.items())


@pytest.mark.slow
def test_rank_0_alone_prints_and_writes(runs):
    lines = (runs / "two.txt").read_text().splitlines()
    steps = sum(case["changes"].get("steps", 3) for case in CASES.values())
    assert len([line for line in lines if line.startswith("step ")]) == steps
    for case, options in CASES.items():
        metrics = (runs / "two" / case / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in metrics] == [*range(1, options["changes"].get("steps", 3) + 1)]
    names = {path.name for path in (runs / "two" / "shards").iterdir() if path.is_dir()} - {"tensorboard"}
    assert names == {"model", "step-00000002", "step-00000003"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["copies", "parts"])
def test_a_run_goes_from_one_process_to_two_and_back(runs, how):
    """Every sample exactly once, and the losses of the uninterrupted run."""
    whole = told(runs / "one" / "whole", "rank0-of-1-6")
    stages = [("rank0-of-1-2",), ("rank0-of-2-4", "rank1-of-2-4"), ("rank0-of-1-6",)]
    losses, documents = {}, []
    for stage, (first, *others) in enumerate(stages):
        found = told(runs / "moved" / how, first)
        assert found["stopped"] == (stage < 2)
        losses |= found["losses"]
        documents += found["documents"]
        for other in others:
            again = told(runs / "moved" / how, other)
            assert again["losses"] == found["losses"]
            documents += again["documents"]
    assert losses.keys() == whole["losses"].keys()
    assert list(losses.values()) == pytest.approx(list(whole["losses"].values()), rel=1e-6, abs=1e-6)
    assert sorted(documents) == sorted(whole["documents"])
    assert len(documents) == 12  # two batches of each step
    (mine, state), (theirs, expected) = (
        (found.tensors, found.state)
        for found in (load_latest(runs / "moved" / how), load_latest(runs / "one" / "whole"))
    )
    assert state["data"] == expected["data"]
    assert mine.keys() == theirs.keys()
    assert all(tensor.shape == theirs[name].shape for name, tensor in mine.items())


@pytest.mark.slow
def test_each_rank_writes_its_part_of_the_backbone(runs):
    folder = runs / "two" / "shards"
    files = [f"tensors-0000{rank}-of-00002.safetensors" for rank in (1, 2)]
    saved = folder / "step-00000003"
    assert sorted(p.name for p in saved.iterdir()) == ["MANIFEST.json", "state.json", *files]
    first, second = (load_file(saved / name) for name in files)
    assert all(".backbone." in name or not name.startswith("model.") for name in second)
    assert not any(name.startswith("model.components.text") for name in second)
    cut = "model.components.backbone.blocks.0.ff.gate_up.weight"
    assert (len(first[cut]), len(second[cut])) == (45, 45)
    weights = load_file(folder / "weights.safetensors")
    whole = load_latest(folder).tensors
    assert {name.removeprefix("model.") for name in whole if name.startswith("model.")} == weights.keys()
    assert all(torch.equal(whole[f"model.{name}"], weight) for name, weight in weights.items())
    averages = {name: t for name, t in whole.items() if name.startswith("average.")}
    assert averages
    assert all(t.shape == weights[name.removeprefix("average.")].shape for name, t in averages.items())


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_at_one_step(tmp_path):
    ranks = two(tmp_path, "trouble", "signal")
    said = [rank.communicate(timeout=200) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert [f"rank {i} stopped at 3: True" in out for i, (out, _) in enumerate(said)] == [True, True]
    assert load_latest(tmp_path).step == 3
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_an_error_on_one_rank_ends_the_others(tmp_path):
    ranks = two(tmp_path, "trouble", "error")
    said = [rank.communicate(timeout=200)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1]
    assert "rank 1 has had enough" in said[1]
    assert "DistributedError: rank 0: another of the 2 ranks has ended or does not answer" in said[0]


@pytest.mark.slow
def test_a_rank_that_hangs_ends_the_others(tmp_path):
    ranks = two(tmp_path, "trouble", "hang")
    try:
        assert "DistributedError: rank 0: another of the 2 ranks" in ranks[0].communicate(timeout=200)[1]
        assert ranks[0].returncode == 1
        assert (tmp_path / "hangs").exists()
        assert ranks[1].poll() is None
    finally:
        ranks[1].kill()
        ranks[1].communicate()


@pytest.mark.slow
def test_two_agents_are_one_run(tmp_path):
    """Two nodes, as far as one machine has them."""
    (tmp_path / "cases.json").write_text(json.dumps({"one": {"changes": {"steps": 2, "shard": True}}}))
    endpoint = f"localhost:{free_port()}"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
               "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", "a",
               "--local-addr", "localhost"]  # fmt: skip
    agents = [
        subprocess.Popen([*command, str(RANKS), str(tmp_path), "parity", str(tmp_path / "cases.json")],
                         env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    said = [agent.communicate(timeout=200)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert told(tmp_path / "one", "rank0-of-2-2")["digests"] == told(tmp_path / "one", "rank1-of-2-2")["digests"]


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path):
    """``docs/scale.md`` from its first line to its last; both machines are this one, with a rank each."""
    page = (ROOT / "docs" / "scale.md").read_text()
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if file := re.match(r"# ([\w.]+\.(?:py|toml))\n", code):
            (tmp_path / file[1]).write_text(code)
        elif language == "python":
            subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
        elif language == "console":
            run_line(code.removeprefix("$ "), tmp_path)
    assert load_latest(tmp_path / "runs" / "scale").step == 10
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [(line["index"], "error" in line) for line in answers] == [(0, False), (1, False)]


def run_line(line: str, folder: Path) -> None:
    modules = {"torchrun": "torch.distributed.run", "anyany": "anyany.cli.main"}
    line = line.replace("--nproc-per-node 8", "--nproc-per-node 1 --local-addr localhost")
    program, *words = line.replace("node0:29500", f"localhost:{free_port()}").split()
    command = [sys.executable, "-m", modules[program], *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    copies = [
        subprocess.Popen(command, cwd=folder, env=environment(), text=True, **pipes)  # type: ignore[call-overload]
        for _ in range(2 if "--nnodes" in words else 1)
    ]
    said = [copy.communicate(timeout=200) for copy in copies]
    assert [copy.returncode for copy in copies] == [0] * len(copies), (line, said)


# One process.


def test_alone_nothing_is_changed():
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.full((3,), 2.0)
    buffer = torch.zeros(2)
    ALONE.sum_gradients([weight, torch.nn.Parameter(torch.ones(1))])
    with ALONE.summing_changes([buffer]):
        buffer.add_(1)
    ALONE.wait()
    ALONE.same("weights", 3)
    assert weight.grad.tolist() == [2.0] * 3
    assert buffer.tolist() == [1.0, 1.0]
    assert ALONE.sum_counts({"text": 3, "x": 0}) == {"text": 3, "x": 0}
    assert (ALONE.agree(True), ALONE.agree(False), ALONE.first) == (True, False, True)


class Told(World):
    """A world whose other ranks say what a test wants."""

    def gather(self, value):
        return [value, {"text": 2, "imu": 5}]


def test_counts_are_summed_by_name():
    assert Told(0, 2).sum_counts({"text": 3, "audio": 1}) == {"text": 5, "audio": 1, "imu": 5}
    with pytest.raises(DistributedError, match="rank 1: other weights than on rank 0"):
        Told(0, 2).same("weights", {"a": "b"})


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from([torch.float32, torch.bfloat16]))), st.integers(1, 60))
def test_buckets_hold_all_tensors_in_order(shapes, size):
    tensors = [torch.zeros(length, dtype=dtype) for length, dtype in shapes]
    found = list(buckets(tensors, size))
    assert [id(t) for bucket in found for t in bucket] == [id(t) for t in tensors]
    for bucket in found:
        assert len({t.dtype for t in bucket}) == 1
        assert len(bucket) == 1 or sum(t.nbytes for t in bucket) <= size


def test_buffers_of_what_trains_are_summed():
    trains, frozen = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3).requires_grad_(False)
    trains.register_buffer("seen", torch.tensor(False))
    assert [b.shape for b in numbers([trains, frozen])] == [(3,), (3,), ()]


def test_a_world_that_nobody_began_is_an_error(monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DistributedError, match="start them by torchrun"), joined():
        pass
    monkeypatch.delenv("WORLD_SIZE")
    with joined() as world:
        assert world is ALONE


@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        (
            {"accumulate": 3},
            2,
            "accumulate = 3 batches cannot be dealt out evenly to 2 ranks; set accumulate to a mult",
        ),
        ({}, 4, "accumulate = 1 batches cannot"),
        ({"shard": True}, 1, "shard needs several ranks"),
        ({"shard": True, "task": "bind"}, 2, "the task bind does not run the backbone"),
        ({"shard": 1.5}, 2, "shard must be one of false, true"),
    ],
)
def test_recipes_that_do_not_fit_the_ranks(tmp_path, changes, size, message):
    with pytest.raises(RecipeError, match=message):
        Run(make_recipe({"name": "r", "model": "m", "sources": {"s": {"factory": "f:g"}}, **changes}),
            tmp_path / "run", world=World(0, size))  # fmt: skip
    assert not (tmp_path / "run").exists()
