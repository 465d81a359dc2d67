"""The store keeps every bit, whoever writes, whoever is killed, and whatever happens to its files."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest
import torch

from anyany.errors import DataError
from anyany.training.store import LEFT_BEHIND, Store


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def rows(number: int) -> torch.Tensor:
    """Of many types and odd sizes, each number its own."""
    draw = torch.Generator().manual_seed(number)
    made = torch.randn(number % 5, *((), (3,), (7, 2))[number % 3], generator=draw) * 100
    return made.to((torch.float32, torch.bfloat16, torch.int64, torch.float16, torch.bool)[number % 5])


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    bits = [x.contiguous().reshape(-1).view(torch.uint8) for x in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)


def filled(folder: Path, numbers, **options) -> Store:
    store = Store(folder, **options)
    store.put({key(n): rows(n) for n in numbers})
    store.flush()
    return store


def check(store: Store, numbers) -> None:
    found = store.find([key(n) for n in numbers])
    assert found.keys() == {key(n) for n in numbers}
    assert all(same(found[key(n)], rows(n)) for n in numbers)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_every_bit_comes_back(tmp_path):
    odd = torch.tensor([[float("nan"), -0.0, float("inf"), 1e-42]])
    odd.view(torch.int32)[0, 0] += 5  # one NaN of many
    store = filled(tmp_path / "new" / "folder", range(30))
    store.put({b"odd" + key(0): odd, b"view" + key(0): torch.arange(12).view(3, 4).t()})
    store.flush()
    for each in (store, Store(tmp_path / "new" / "folder")):
        check(each, range(30))
        assert len(each) == 32
        assert same(each.find([b"odd" + key(0)])[b"odd" + key(0)], odd)
        assert torch.equal(each.find([b"view" + key(0)])[b"view" + key(0)], torch.arange(12).view(3, 4).t())
        assert each.find([key(99)]) == {}


def test_what_waits_is_found_and_is_a_copy(tmp_path):
    store, given = Store(tmp_path), torch.ones(4, 3)
    store.put({key(1): given[1:3]})
    given.zero_()
    assert torch.equal(store.find([key(1)])[key(1)], torch.ones(2, 3))
    assert shards(tmp_path) == []
    assert len(store) == 1


def test_memory_is_bounded_and_a_call_lands_in_one_shard(tmp_path):
    store = Store(tmp_path, shard_bytes=10_000)
    for call in range(40):
        store.put({key(call * 10 + i): torch.full((7, 3), call * 10 + i) for i in range(10)})
        assert store.waiting_bytes < 10_000
    assert 10 < len(shards(tmp_path)) < 30
    store.flush()
    for path in shards(tmp_path):
        names = len(Store(_alone(path, tmp_path / path.stem)))
        assert names % 10 == 0
    assert all(int(Store(tmp_path).find([key(n)])[key(n)][0, 0]) == n for n in range(400))


def _alone(path: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_second_store_sees_what_the_first_has_written(tmp_path):
    first, second = Store(tmp_path), Store(tmp_path)
    first.put({key(n): rows(n) for n in range(9)})
    assert second.find([key(3)]) == {}
    first.flush()
    check(second, range(9))
    second.put({key(n): rows(n) for n in range(5, 20)})  # some of them twice: harmless
    second.flush()
    check(first, range(20))
    assert len(first) == len(Store(tmp_path)) == 20


def test_nothing_is_written_where_nothing_waits(tmp_path):
    store = Store(tmp_path)
    store.flush()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 60, -700, -1])
def test_a_truncated_shard_is_passed_over(tmp_path, cut):
    filled(tmp_path, range(10, 20))
    (damaged,) = shards(tmp_path)
    filled(tmp_path, range(5))
    damaged.write_bytes(damaged.read_bytes()[:cut])
    with pytest.warns(UserWarning, match=f"{damaged.name}.*computed anew"):
        store = Store(tmp_path)
    assert store.find([key(n) for n in range(10, 20)]) == {}
    check(store, range(5))
    store.put({key(n): rows(n) for n in range(10, 20)})
    store.flush()
    check(store, range(20 - 10, 20))
    with pytest.warns(UserWarning, match=damaged.name):
        again = Store(tmp_path)
    check(again, [*range(5), *range(10, 20)])


def test_no_damage_of_one_byte_gives_wrong_rows(tmp_path):
    """Every byte of a shard, header and rows, is changed once."""
    filled(tmp_path, [3, 4, 6])
    (path,) = shards(tmp_path)
    good, noticed = path.read_bytes(), 0
    for index in range(len(good)):
        path.write_bytes(good[:index] + bytes([good[index] ^ 1]) + good[index + 1 :])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = Store(tmp_path).find([key(n) for n in (3, 4, 6)])
        assert all(same(found[key(n)], rows(n)) for n in (3, 4, 6) if key(n) in found), index
        noticed += bool(told)
        assert len(found) < 3, index
    assert noticed > len(good) // 2


def test_swapped_bytes_are_noticed_and_another_copy_is_found(tmp_path):
    filled(tmp_path, range(1, 10))
    (path,) = shards(tmp_path)
    good = bytearray(path.read_bytes())
    place = next(i for i in range(len(good) - 2, 0, -1) if good[i] != good[i + 1])  # in the rows, at the end
    good[place], good[place + 1] = good[place + 1], good[place]
    path.write_bytes(good)
    store = Store(tmp_path)
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        assert len(store.find([key(n) for n in range(1, 10)])) < 9
    store.put({key(n): rows(n) for n in range(1, 10)})
    store.flush()
    check(store, range(1, 10))
    again = Store(tmp_path)
    again.where = {k: (path.name, seal) for k, (_, seal) in again.where.items()}  # the damaged one is asked first
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        check(again, range(1, 10))


def test_another_file_of_safetensors_is_no_shard(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match=r"model.safetensors is no whole shard"):
        assert len(Store(tmp_path)) == 0


def test_a_folder_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file is no folder.*choose another"):
        Store(tmp_path / "file")
    store = Store(tmp_path / "gone")
    store.put({key(1): rows(1)})
    (tmp_path / "gone").rmdir()
    with pytest.raises(DataError, match=r"gone cannot be written .*train without a store"):
        store.flush()
    (tmp_path / "gone").mkdir()
    store.flush()  # nothing was lost
    check(Store(tmp_path / "gone"), [1])


WRITER = """
    import hashlib, os, signal, sys
    from pathlib import Path
    import torch
    from anyany.training import store as module
    from anyany.training.store import Store

    folder, first, last, kill = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    key = lambda n: hashlib.sha256(str(n).encode()).digest()
    store = Store(folder, shard_bytes=2000)
    if kill == "half":
        module.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(first, last):
        if not store.find([key(n)]):
            store.put({key(n): torch.full((n % 4, 3), n)})
    store.flush()
"""


def _writer(folder: Path, first: int, last: int, kill: str = "no", seed: str = "0") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(folder), str(first), str(last), kill]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_two_processes_write_into_one_folder_at_once(tmp_path):
    writers = [_writer(tmp_path, 0, 300, seed="1"), _writer(tmp_path, 150, 450, seed="2")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    store = Store(tmp_path)
    assert len(store) == 450
    found = store.find([key(n) for n in range(450)])
    assert all(torch.equal(found[key(n)], torch.full((n % 4, 3), n)) for n in range(450))
    assert not list(tmp_path.glob("*.tmp"))
    assert len(shards(tmp_path)) > 40


@pytest.mark.slow
def test_a_killed_writer_leaves_nothing_wrong(tmp_path):
    filled(tmp_path, range(4))
    writer = _writer(tmp_path, 4, 100, "half")
    writer.communicate("\n", timeout=120)
    assert writer.returncode == -signal.SIGKILL
    (half,) = tmp_path.glob("*.tmp")
    store = Store(tmp_path)
    assert len(store) == 4
    assert half.exists()  # it may be another's that is at work
    old = time.time() - LEFT_BEHIND - 5
    os.utime(half, (old, old))
    check(Store(tmp_path), range(4))
    assert not half.exists()
