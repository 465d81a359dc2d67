"""Checkpoints that several ranks write together: each its part, all or nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from anyany.errors import CheckpointError
from anyany.training import checkpoint
from anyany.training.checkpoint import load_latest, snapshot, write
from anyany.training.distributed import World

W = torch.arange(51.0).view(17, 3).bfloat16()
CUTS = (5, 5, 12, 17)
"""Rank 0 has five rows, rank 1 none, and so on."""


class Meeting:
    """What ranks in threads tell each other."""

    def __init__(self, size: int) -> None:
        self.barrier, self.said = threading.Barrier(size, timeout=20), [None] * size


class Thread(World):
    """One rank of a meeting."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        super().__init__(rank, len(meeting.said))
        object.__setattr__(self, "meeting", meeting)

    def gather(self, value):
        self.meeting.said[self.rank] = value
        self.meeting.barrier.wait()
        told = list(self.meeting.said)
        self.meeting.barrier.wait()
        return told


def together(folder: Path, step: int, **options) -> list:
    """Four ranks write; the directory or the error of each."""

    def one(rank: int):
        mine = {"w": W[(0, *CUTS)[rank] : CUTS[rank]]}
        mine |= {"number": torch.tensor(step), "alone": torch.ones(2)} if rank == 0 else {}
        try:
            return write(folder, snapshot(step, mine, {"step": step}), world=Thread(meeting, rank), **options)
        except CheckpointError as error:
            return error

    meeting = Meeting(4)
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(4)))


def test_parts_are_one_checkpoint(tmp_path):
    assert together(tmp_path, 3) == [tmp_path / "step-00000003"] * 4
    names = [f"tensors-0000{rank}-of-00004.safetensors" for rank in (1, 2, 3, 4)]
    assert sorted(p.name for p in (tmp_path / "step-00000003").iterdir()) == ["MANIFEST.json", "state.json", *names]
    found = load_latest(tmp_path)
    assert set(found.tensors) == {"w", "number", "alone"}
    assert torch.equal(found.tensors["w"], W)
    assert found.tensors["w"].dtype == W.dtype
    assert (int(found.tensors["number"]), found.state, len(found.tensors)) == (3, {"step": 3}, 3)
    with pytest.raises(KeyError):
        found.tensors["gone"]


def test_old_ones_go_and_one_process_may_write_beside_them(tmp_path):
    for step in (1, 2):
        together(tmp_path, step, keep=2)
    write(tmp_path, snapshot(3, {"w": W}, {"step": 3}), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000002", "step-00000003"]
    together(tmp_path, 3, keep=2)
    assert torch.equal(load_latest(tmp_path).tensors["w"], W)


@pytest.mark.parametrize("fails", [0, 2])
def test_one_rank_that_cannot_write_fails_all_and_the_last_one_stays(tmp_path, monkeypatch, fails):
    together(tmp_path, 1)
    save_file = checkpoint.save_file

    def full(tensors, file):
        if f"0000{fails + 1}-of" in file.name:
            raise OSError(28, "No space left on device")
        save_file(tensors, file)

    monkeypatch.setattr(checkpoint, "save_file", full)
    errors = [str(error) for error in together(tmp_path, 2)]
    assert all("step 2: cannot be written" in error and "No space left on device" in error for error in errors)
    assert [f"rank {fails}:" in error for error in errors] == [rank != fails for rank in range(4)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "step-00000001"]
    assert load_latest(tmp_path).step == 1


@pytest.mark.parametrize("damage", ["gone", "swapped", "cut"])
def test_a_part_that_is_damaged_spoils_the_whole(tmp_path, damage):
    for step in (1, 2):
        together(tmp_path, step)
    part, other = (tmp_path / "step-00000002" / f"tensors-0000{rank}-of-00004.safetensors" for rank in (3, 4))
    if damage == "gone":
        part.unlink()
    elif damage == "swapped":
        mine, theirs = part.read_bytes(), other.read_bytes()
        part.write_bytes(theirs)
        other.write_bytes(mine)
    else:
        part.write_bytes(part.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"tensors-00003-of-00004.safetensors (is missing|differs)"):
        assert load_latest(tmp_path).step == 1


def test_a_manifest_that_leads_outside_is_refused(tmp_path):
    saved = write(tmp_path, snapshot(1, {"w": W}, {}))
    file = saved / "MANIFEST.json"
    file.write_text(file.read_text().replace('"tensors.safetensors"', '"../step-00000001/tensors.safetensors"'))
    with pytest.raises(CheckpointError, match="no file of this folder"):
        checkpoint.load_step(saved)
