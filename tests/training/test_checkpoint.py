"""Checkpoints of a run survive kills, damage and full disks; a killed run goes on bit for bit."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from anyany.errors import CheckpointError
from anyany.training import checkpoint, optim
from anyany.training.checkpoint import load_latest, load_step, snapshot, write
from anyany.training.optim import pack_optimizer, unpack_optimizer

TESTS = Path(__file__).parent.parent


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.full((50, 20), float(value)), "half": torch.full((3,), value, dtype=torch.bfloat16),
            "random": torch.get_rng_state(), "number": torch.tensor(int(value))}  # fmt: skip


def save_step(folder: Path, step: int, tensors, state, **options) -> Path:
    return write(folder, snapshot(step, tensors, state), **options)


def save(folder: Path, step: int, **options) -> Path:
    return save_step(folder, step, tensors(step), {"step": step, "taken": {"a": 3}}, **options)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_step_comes_back_bit_for_bit(tmp_path):
    torch.manual_seed(3)
    odd = {"odd": torch.tensor([math.nan, math.inf, -0.0]), "view": torch.arange(12).view(3, 4).t()}
    odd["none"] = torch.empty(0)
    shared = torch.randn(4)
    given = {**tensors(7), **odd, "a": shared, "b": shared}
    save_step(tmp_path, 7, given, {"step": 7})
    found = load_latest(tmp_path)
    assert found.step == 7
    assert found.state == {"step": 7}
    assert found.tensors.keys() == given.keys()
    for name, value in given.items():
        assert found.tensors[name].dtype == value.dtype
        bits = [x.contiguous().view(-1).view(torch.uint8) for x in (found.tensors[name], value) if x.dim()]
        assert torch.equal(*bits) if bits else found.tensors[name] == value, name


def test_only_the_newest_stay(tmp_path):
    for step in (1, 2, 10, 100_000_000):
        save(tmp_path, step, keep=2)
    assert names(tmp_path) == ["latest", "step-00000010", "step-100000000"]
    assert (tmp_path / "latest").read_text() == "step-100000000\n"
    assert load_latest(tmp_path).step == 100_000_000
    save(tmp_path, 100_000_001, keep=1)
    assert names(tmp_path) == ["latest", "step-100000001"]


def test_nothing_yet_is_not_an_error(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "nowhere") is None
    (tmp_path / "step-00000001.tmp").mkdir()
    (tmp_path / "notes").mkdir()
    assert load_latest(tmp_path) is None


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "MANIFEST.json"])
@pytest.mark.parametrize(
    "damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b""), lambda p: p.write_bytes(p.read_bytes()[:-4]),
               lambda p: p.write_bytes(bytes([p.read_bytes()[0] ^ 1]) + p.read_bytes()[1:])],
    ids=["gone", "empty", "cut", "flipped"],
)  # fmt: skip
def test_a_damaged_newest_falls_back_to_the_one_before_with_a_warning(tmp_path, name, damage):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    damage(path / name)
    with pytest.raises(CheckpointError, match="step-00000002"):
        load_step(path)
    with pytest.warns(UserWarning, match=r"step-00000002.*trying the checkpoint before it"):
        assert load_latest(tmp_path).step == 1
    damage(tmp_path / "step-00000001" / name)
    with pytest.warns(UserWarning, match="step"), pytest.raises(CheckpointError, match="all 2 training checkpoints"):
        load_latest(tmp_path)


@pytest.mark.parametrize("change", [{"format": 1}, {"files": {}}, {"files": []}, {"step": "2"}, {"format": None}])
def test_a_manifest_of_another_kind(tmp_path, change):
    path = save(tmp_path, 2)
    manifest = json.loads((path / "MANIFEST.json").read_text())
    (path / "MANIFEST.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(CheckpointError):
        load_step(path)


def test_what_is_not_json_or_out_of_range_is_refused_before_anything_is_written(tmp_path):
    for state in ({"x": object()}, {"x": math.nan}, {"x": {1, 2}}):
        with pytest.raises(CheckpointError, match="JSON"):
            save_step(tmp_path, 1, {}, state)
    for step, keep, what in ((-1, 1, "step"), (1, 0, "keep")):
        with pytest.raises(CheckpointError, match=f"expected {what}"):
            save_step(tmp_path, step, {}, {}, keep=keep)
    assert names(tmp_path) == []


@pytest.mark.parametrize("where", ["save_file", "_describe", "sync"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_failing_save_leaves_the_last_one_whole(tmp_path, monkeypatch, where, step):
    """No space on the device, at whatever point, and whether the step is new or saved again."""
    save(tmp_path, 1, keep=1)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, where, full)
    with pytest.raises(
        CheckpointError, match=r"step \d: cannot be written to .*No space left on device; the one before"
    ):
        save_step(tmp_path, step, tensors(99), {"step": 99}, keep=1)
    monkeypatch.undo()
    found = load_latest(tmp_path)
    assert found.state["step"] == 1
    assert float(found.tensors["w"][0, 0]) == 1
    assert not list(tmp_path.glob("*.tmp"))  # half a checkpoint would keep a full disk full
    save(tmp_path, 3, keep=1)
    assert names(tmp_path) == ["latest", "step-00000003"]  # the next save clears up


@pytest.mark.parametrize("killed_after", [0, 1])
def test_saving_a_step_again_never_leaves_none(tmp_path, monkeypatch, killed_after):
    """The process ends between two renames: the old one or the new one is found."""
    save(tmp_path, 5, keep=1)
    plain, count = Path.rename, iter(range(9))

    def rename(self, target):
        if next(count) == killed_after:
            raise KeyboardInterrupt
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        save_step(tmp_path, 5, tensors(6), {"step": 6}, keep=1)
    monkeypatch.undo()
    assert load_latest(tmp_path).state["step"] == 5
    save(tmp_path, 5, keep=1)
    assert names(tmp_path) == ["latest", "step-00000005"]


KILLED = """
    import os, signal, sys, warnings
    from pathlib import Path
    import torch
    from anyany.training.checkpoint import load_latest, snapshot, write

    warnings.simplefilter("error")  # a kill alone damages nothing
    folder = Path(sys.argv[1])
    TOUCHES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.scandir", "os.listdir"}

    def save(step):
        write(folder, snapshot(step, {"w": torch.full((1000,), float(step))}, {"step": step}), keep=1)

    def child(step, moment):
        left = [moment]

        def watch(event, arguments):
            if event in TOUCHES:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        save(step)
        save(step)  # again, as the end of a run may do
        os._exit(0)

    save(0)
    last, kills, states = 0, 0, set()
    while True:
        pid = os.fork()
        if not pid:
            child(last + 1, kills)
        killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        found = load_latest(folder)
        if found is None or found.state["step"] != found.step or not last <= found.step <= last + 1:
            sys.exit(f"moment {kills}: after step {last}, found {found and found.step}")
        if not (found.tensors["w"] == found.step).all():
            sys.exit(f"moment {kills}: the tensors are of another step")
        states.add(tuple(sorted(p.suffix for p in folder.iterdir())))
        last = found.step
        if not killed:
            break
        kills += 1
    print(kills, len(states))
"""


@pytest.mark.slow
def test_a_kill_at_any_touch_of_the_disk_leaves_a_whole_checkpoint(tmp_path):
    """One process for each file operation of two saves, killed right before it."""
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    (tmp_path / "run").mkdir()
    out = _python(script, tmp_path / "run")
    assert out.returncode == 0, out.stderr
    kills, states = map(int, out.stdout.split())
    assert kills > 30
    assert states > 3  # kills did fall into saves: the folder was found in many states


def _python(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


LIMITED = """
    import resource, sys
    from pathlib import Path
    import torch
    from anyany.errors import CheckpointError
    from anyany.training.checkpoint import load_latest, snapshot, write

    folder = Path(sys.argv[1])
    write(folder, snapshot(1, {"w": torch.ones(1000)}, {"step": 1}), keep=1)
    for limit in (100_000, 100):  # in the middle of the tensors, and of the first file that is small
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write(folder, snapshot(2, {"w": torch.ones(100_000)}, {"step": 2}), keep=1)
        except CheckpointError as error:
            print(error)
        print(load_latest(folder).step, *sorted(p.name for p in folder.iterdir()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write(folder, snapshot(3, {"w": torch.ones(100_000)}, {"step": 3}), keep=1)
    print(load_latest(folder).step, *sorted(p.name for p in folder.iterdir()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of a file")
def test_files_that_the_system_refuses_to_write(tmp_path):
    """Not simulated: the kernel ends the write in the middle of a file."""
    script = tmp_path / "limited.py"
    script.write_text(textwrap.dedent(LIMITED))
    out = _python(script, tmp_path / "run")
    assert out.returncode == 0, out.stderr
    first, left, second, still, last = out.stdout.splitlines()
    assert first.startswith("training checkpoint of step 2: cannot be written to")
    assert second.startswith("training checkpoint of step 2: cannot be written to")
    assert left == still == "1 latest step-00000001"
    assert last == "3 latest step-00000003"


# The optimiser.


def trained(steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = torch.nn.Linear(4, 3)
    optimizer = optim.adamw(optim.parameter_groups({"m": module}, {"": 0.1}))
    for i in range(steps):
        optimizer.zero_grad()
        module(torch.full((2, 4), float(i))).square().sum().backward()
        optimizer.step()
    return module, optimizer


def test_an_optimiser_goes_on_where_it_was(tmp_path):
    whole, _ = trained(6)
    module, optimizer = trained(4)
    save_step(tmp_path, 4, {**module.state_dict(), **pack_optimizer(optimizer)}, {})
    found = load_latest(tmp_path).tensors
    again, fresh = trained(0)
    again.load_state_dict({k: v for k, v in found.items() if not k.startswith("optimizer.")})
    unpack_optimizer(fresh, found)
    for i in (4, 5):
        fresh.zero_grad()
        again(torch.full((2, 4), float(i))).square().sum().backward()
        fresh.step()
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_state_of_another_optimiser_is_refused():
    packed = pack_optimizer(trained(1)[1])
    other = torch.nn.Linear(5, 3)
    optimizer = optim.adamw(optim.parameter_groups({"m": other}, {"": 0.1}))
    with pytest.raises(CheckpointError, match="optimiser"):
        unpack_optimizer(optimizer, packed)
    with pytest.raises(CheckpointError, match="optimiser"):
        unpack_optimizer(trained(0)[1], {"optimizer.9.step": torch.tensor(1.0)})
