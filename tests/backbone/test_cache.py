"""The cache: rows that come in pieces give what they give at once; runs move, fork, shrink, and never mix."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from anyany.backbone import Backbone, BackboneConfig, KVPool, Run, build
from anyany.errors import CacheError

WIDTH = 16
EXACT = {"rtol": 1e-9, "atol": 1e-11}


def make(**changes) -> Backbone:
    torch.manual_seed(0)
    backbone = build(BackboneConfig(width=WIDTH, layers=3, heads=4, kv_heads=2, **changes)).double().eval()
    for parameter in backbone.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(12)  # rows must matter to each other
    return backbone


BACKBONES = {
    "rope": {},
    "windows": {"window": (0, 3, 2)},
    "learned": {"positions": "learned", "norm": "layer", "ff": "gelu", "qkv_bias": True},
    "sections": {"sections": (1, 1, 0), "head_dim": 4, "qk_norm": True},
    "capped, two bases": {"score_cap": 3.0, "local_theta": 20.0, "window": (0, 3, 2), "norms": "both", "ff": "geglu"},
    "experts, some turned": {
        "experts": 3,
        "experts_chosen": 2,
        "experts_hidden": 12,
        "unturned_layers": (0,),
        "norms": "post",
        "qk_norm": "whole",
    },
}


@pytest.fixture(params=BACKBONES)
def backbone(request) -> Backbone:
    return make(**BACKBONES[request.param])


def drawn(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def places(start: int, n: int) -> Tensor:
    return torch.arange(start, start + n, dtype=torch.float32)[:, None].expand(-1, 3)


def causal(n: int, *spans: tuple[int, int]) -> Tensor:
    """How many rows each row sees; rows of a span see all of it."""
    sees = torch.arange(1, n + 1, dtype=torch.int32)
    for first, end in spans:
        sees[first:end] = end
    return sees


def ranges(run: Run, sees: Tensor) -> Tensor:
    intervals = torch.empty(len(sees), 2, 2, dtype=torch.int32)
    intervals[:, 0] = torch.tensor(run.prefix)
    intervals[:, 1, 0], intervals[:, 1, 1] = run.start, run.start + sees
    return intervals


@torch.inference_mode()
def feed(backbone: Backbone, pool: KVPool, run: Run, x: Tensor, sees: Tensor, start: int | None = None) -> Tensor:
    """More rows of a run; ``start`` is their first coordinate."""
    start = run.length if start is None else start
    slots = slice(*pool.append(run, len(x)))
    return backbone(x, places(start, len(x)), ranges(run, sees), cache=pool, slots=slots)


@torch.inference_mode()
def at_once(backbone: Backbone, x: Tensor, sees: Tensor) -> Tensor:
    intervals = torch.zeros(len(x), 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = sees
    return backbone(x, places(0, len(x)), intervals)


def new_pool(backbone: Backbone, rows: int) -> KVPool:
    return backbone.new_pool(rows, dtype=torch.float64, debug=True)


# Cached equals uncached.


@pytest.mark.parametrize("spans", [(), ((2, 5),), ((0, 3), (4, 7))], ids=["causal", "span", "spans"])
def test_every_split(backbone, spans):
    n = 7
    x, sees = drawn(n), causal(n, *spans)
    want = at_once(backbone, x, sees)
    cuts = [c for c in range(1, n) if not any(first < c < end for first, end in spans)]  # what looks ahead comes whole
    for chosen in itertools.chain.from_iterable(itertools.combinations(cuts, r) for r in range(len(cuts) + 1)):
        pool = new_pool(backbone, 20)
        pool.reserve(5)  # the run does not start at 0
        run = pool.reserve(n)
        bounds = itertools.pairwise([0, *chosen, n])
        found = [feed(backbone, pool, run, x[a:b], sees[a:b]) for a, b in bounds]
        torch.testing.assert_close(torch.cat(found), want, **EXACT)


@pytest.mark.parametrize("share", [1, 4, 6])
def test_a_branch_sees_its_prefix(backbone, share):
    """A branch over the first rows of its parent is the sequence of those rows and its own, for every split."""
    parent_rows, tail = drawn(6), drawn(5, seed=1)
    want = at_once(backbone, torch.cat([parent_rows[:share], tail]), causal(share + 5))[share:]
    for cut in range(1, 6):
        pool = new_pool(backbone, 32)
        parent = pool.reserve(8)
        feed(backbone, pool, parent, parent_rows, causal(6))
        branch = pool.fork(parent, share, 7)
        pieces = [(0, cut), (cut, 5)] if cut < 5 else [(0, 5)]
        found = [feed(backbone, pool, branch, tail[a:b], causal(5)[a:b], share + a) for a, b in pieces]
        torch.testing.assert_close(torch.cat(found), want, **EXACT)


@torch.inference_mode()
def test_parent_and_branches_step_together(backbone):
    """One packed pass over a parent and two branches; each goes its own way afterwards."""
    head, tails = drawn(4), [drawn(3, seed=s) for s in (1, 2, 3)]
    pool = new_pool(backbone, 40)
    parent = pool.reserve(10)
    feed(backbone, pool, parent, head, causal(4))
    runs = [parent, pool.fork(parent, 4, 5), pool.fork(parent, 4, 5)]
    found: list[list[Tensor]] = [[], [], []]
    for step in range(3):
        slots = torch.tensor([pool.append(run, 1)[0] for run in runs])
        intervals = torch.cat([ranges(run, torch.tensor([run.length])) for run in runs])
        x = torch.stack([tail[step] for tail in tails])
        out = backbone(x, places(4 + step, 1).expand(3, -1), intervals, cache=pool, slots=slots)
        for run, row in zip(found, out, strict=True):
            run.append(row)
    for rows, tail in zip(found, tails, strict=True):
        want = at_once(backbone, torch.cat([head, tail]), causal(7))[4:]
        torch.testing.assert_close(torch.stack(rows), want, **EXACT)


def test_dropped_rows_leave_no_trace(backbone):
    x, trial = drawn(7), drawn(4, seed=5)
    pool = new_pool(backbone, 16)
    run = pool.reserve(12)
    found = []
    for i in range(7):
        found.append(feed(backbone, pool, run, x[i : i + 1], causal(7)[i : i + 1]))
        feed(backbone, pool, run, trial, run.length + causal(4, (0, 4)))  # a trial that looks both ways
        pool.rollback(run, 4 if i % 2 else 3)  # every other time, keep the first trial row
        if not i % 2:
            pool.rollback(run, 1)
    torch.testing.assert_close(torch.cat(found), at_once(backbone, x, causal(7)), **EXACT)


def test_kept_rows_stay(backbone):
    """A trial of which the first rows are kept is the sequence up to there."""
    x = drawn(9)
    pool = new_pool(backbone, 16)
    run = pool.reserve(12)
    feed(backbone, pool, run, x, causal(9))
    pool.rollback(run, 4)
    more = drawn(3, seed=6)
    found = feed(backbone, pool, run, more, causal(8)[5:])
    torch.testing.assert_close(found, at_once(backbone, torch.cat([x[:5], more]), causal(8))[5:], **EXACT)


def test_runs_that_move_keep_their_rows(backbone):
    x, sees = drawn(10), causal(10)
    pool = new_pool(backbone, 40)
    before, run, neighbour = pool.reserve(6), pool.reserve(4), pool.reserve(5)
    other = feed(backbone, pool, neighbour, drawn(4, seed=8), causal(4))
    found = [feed(backbone, pool, run, x[:4], sees[:4])]
    start = run.start
    pool.grow(run, 8)
    assert run.start > neighbour.start > start  # the neighbour is in the way
    found.append(feed(backbone, pool, run, x[4:7], sees[4:7]))
    pool.release(before)
    pool.compact()
    assert (neighbour.start, run.start) == (0, 5)
    pool.grow(run, 20)  # in place
    found.append(feed(backbone, pool, run, x[7:], sees[7:]))
    torch.testing.assert_close(torch.cat(found), at_once(backbone, x, sees), **EXACT)
    last = feed(backbone, pool, neighbour, drawn(5, seed=9)[4:], causal(5)[4:])
    rows = torch.cat([drawn(4, seed=8), drawn(5, seed=9)[4:]])
    torch.testing.assert_close(torch.cat([other, last]), at_once(backbone, rows, causal(5)), **EXACT)


def test_poison_of_one_request_stays_with_it(backbone):
    """A request whose rows have become NaN shares a pass with another: only it is lost."""
    pool = new_pool(backbone, 40)
    good, bad = pool.reserve(10), pool.reserve(10)
    x = drawn(5)
    feed(backbone, pool, good, x[:4], causal(4))
    feed(backbone, pool, bad, torch.full((4, WIDTH), float("nan"), dtype=torch.float64), causal(4))
    slots = torch.tensor([pool.append(run, 1)[0] for run in (good, bad)])
    intervals = torch.cat([ranges(run, torch.tensor([5])) for run in (good, bad)])
    with torch.inference_mode():
        out = backbone(x[[4, 4]], places(4, 1).expand(2, -1), intervals, cache=pool, slots=slots)
    torch.testing.assert_close(out[0], at_once(backbone, x, causal(5))[4], **EXACT)
    assert out[1].isnan().all()


def test_a_fresh_pool_is_finite():
    pool = make().new_pool(1000)
    assert not pool.keys.any()
    assert not pool.values.any()


# Bookkeeping.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_is_what_the_formula_says(dtype):
    pool = make(head_dim=6).new_pool(1000, dtype=dtype)
    held = sum(x.untyped_storage().nbytes() for x in vars(pool).values() if isinstance(x, Tensor))
    formula = 2 * 3 * 1000 * 2 * 6 * dtype.itemsize  # keys and values, layers, rows, heads, width
    assert pool.memory() == formula
    assert abs(held - formula) <= 0.05 * formula


def small() -> KVPool:
    return KVPool(1, 1, 2, 10, debug=True)


def test_a_full_pool_says_so():
    pool = small()
    run = pool.reserve(6)
    with pytest.raises(CacheError, match="no 5 rows in a row are free"):
        pool.reserve(5)
    pool.append(run, 6)
    with pytest.raises(CacheError, match="holds 6 rows, 6 used, 1 more do not fit"):
        pool.append(run, 1)
    with pytest.raises(CacheError, match="no 11 rows"):
        pool.grow(run, 11)
    with pytest.raises(CacheError, match="no 5 rows"):
        pool.fork(run, 3, 5)
    assert (run.length, run.branches, pool.used, pool.free) == (6, 0, 6, 4)  # nothing has changed
    pool.grow(run, 10)
    assert pool.free == 0


def test_scattered_room_is_found_by_compacting():
    pool = small()
    runs = [pool.reserve(2) for _ in range(5)]
    pool.release(runs[0])
    pool.release(runs[2])
    with pytest.raises(CacheError):
        pool.reserve(4)
    pool.compact()
    assert pool.reserve(4).start == 6


def test_a_run_may_grow_over_its_own_rows():
    """Free rows before it and its own together are wide enough."""
    pool = small()
    first, run = pool.reserve(4), pool.reserve(4)
    slots = slice(*pool.append(run, 3))
    pool.write(0, slots, torch.arange(6.0).view(3, 1, 2), torch.ones(3, 1, 2))
    pool.release(first)
    pool.grow(run, 9)
    assert run.start == 0
    assert pool.keys[0, :3].flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_what_a_branch_sees_stays():
    pool = small()
    run = pool.reserve(4)
    pool.append(run, 4)
    branch = pool.fork(run, 3, 2)
    pool.reserve(2)
    with pytest.raises(CacheError, match="1 branches still see this run"):
        pool.release(run)
    with pytest.raises(CacheError, match="3 shared, cannot forget 2"):
        pool.rollback(run, 2)
    pool.rollback(run, 1)
    with pytest.raises(CacheError, match="cannot share 4 rows of a run of 3"):
        pool.fork(run, 4, 1)
    pool.release(branch)
    pool.rollback(run, 3)
    pool.release(run)


def test_a_parent_that_moves_takes_its_branches_along(backbone):
    """It grows past its neighbour, then all runs are moved together: a branch goes on seeing what it saw."""
    head, tail = drawn(6), drawn(5, seed=1)
    want = at_once(backbone, torch.cat([head[:4], tail]), causal(9))[4:]
    pool = new_pool(backbone, 64)
    first, parent = pool.reserve(5), pool.reserve(6)
    feed(backbone, pool, parent, head, causal(6))
    branch = pool.fork(parent, 4, 6)
    found = [feed(backbone, pool, branch, tail[:2], causal(2), 4)]
    pool.grow(parent, 9)
    assert parent.start > branch.start
    found.append(feed(backbone, pool, branch, tail[2:4], causal(4)[2:], 6))
    pool.release(first)
    pool.compact()
    assert branch.start == 0
    found.append(feed(backbone, pool, branch, tail[4:], causal(5)[4:], 8))
    torch.testing.assert_close(torch.cat(found), want, **EXACT)


@pytest.mark.parametrize("share", [2, 4, 5, 7])
def test_a_branch_of_a_branch(backbone, share):
    """It shares the prefix of its parent, and has a copy of the rows that its parent has for itself."""
    head, middle, tail = drawn(6), drawn(3, seed=1), drawn(4, seed=2)
    want = at_once(backbone, torch.cat([torch.cat([head[:4], middle])[:share], tail]), causal(share + 4))[share:]
    pool = new_pool(backbone, 40)
    run = pool.reserve(6)
    feed(backbone, pool, run, head, causal(6))
    branch = pool.fork(run, 4, 5)
    feed(backbone, pool, branch, middle, causal(3), 4)
    twig = pool.fork(branch, share, 4)
    assert (twig.rows, twig.capacity, twig.parent) == (share, 4 + max(share - 4, 0), run)
    own = max(share - 4, 0)
    pool.release(branch)
    found = feed(backbone, pool, twig, tail, own + causal(4), share)
    torch.testing.assert_close(found, want, **EXACT)


def test_whoever_needs_no_room_is_asked_for_it():
    pool = small()
    spare, run = pool.reserve(4), pool.reserve(4)
    asked = [spare]
    pool.reclaim = lambda: bool(asked) and pool.release(asked.pop()) is None
    pool.append(run, 3)
    pool.grow(run, 8)  # over the rows of the one that was spared
    assert (run.start, pool.used, asked) == (0, 8, [])
    with pytest.raises(CacheError, match="no 3 rows"):
        pool.reserve(3)


def test_a_released_run_is_dead():
    pool = small()
    run = pool.reserve(4)
    pool.release(run)
    for use in (
        lambda: pool.append(run, 1),
        lambda: pool.rollback(run, 0),
        lambda: pool.fork(run, 0, 1),
        lambda: pool.grow(run, 5),
        lambda: pool.release(run),
    ):
        with pytest.raises(CacheError, match="was released"):
            use()


def test_a_run_does_not_shrink():
    pool = small()
    with pytest.raises(CacheError, match="holds 4 rows already, got 3"):
        pool.grow(pool.reserve(4), 3)
