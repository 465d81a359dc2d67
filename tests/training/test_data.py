"""Sources, their mixture and packed batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from imu_plugin import Imu

from anyany.errors import AnyanyError, DataError, MediaDecodeError, RecipeError, TruncationError
from anyany.model import Marks
from anyany.parts import Message
from anyany.sequence import Layout
from anyany.training import data
from anyany.training.packing import counted, packed
from anyany.training.reports import Reports
from anyany.training.tasks import Planned


class Words:
    """Samples that say their own number, and one number of chance."""

    def __init__(self, size: int = 10, words: int = 1) -> None:
        self.size, self.words = size, words

    def __len__(self) -> int:
        return self.size

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        chance = int(draw.integers(0, 10**6))
        return [Message("user", (f"{index} {chance}",)), Message("assistant", ("one " * self.words,))]


class Readings:
    def __init__(self, rows: int = 3) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return 7

    def sample(self, index: int, draw: np.random.Generator) -> Imu:
        return Imu(np.full((self.rows, 3), index, np.float32))


def as_it_is(source: str, sample):
    return source, sample


def take(stream: data.Stream, count: int) -> list[tuple[str, str]]:
    return [(name, sample[0].parts[0]) for name, sample in (stream.take() for _ in range(count))]


def stream(seed: int = 0, **weights: float) -> data.Stream:
    weights = weights or {"a": 1.0}
    return data.Stream({name: Words(10 + i) for i, name in enumerate(weights)}, weights, seed, as_it_is)


def test_weights_are_honoured_and_every_source_runs_through_its_epochs():
    drawn = take(stream(a=1.0, b=3.0, c=0.0), 2000)
    shares = {name: sum(n == name for n, _ in drawn) / 2000 for name in "abc"}
    assert shares == pytest.approx({"a": 0.25, "b": 0.75, "c": 0.0}, abs=0.03)
    for name, size in (("a", 10), ("b", 11)):
        numbers = [int(text.split()[0]) for n, text in drawn if n == name]
        for epoch in range(len(numbers) // size):
            assert sorted(numbers[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_the_stream_depends_on_its_seed_and_position_alone():
    whole = take(stream(3, a=1.0, b=2.0), 60)
    again = stream(3, a=1.0, b=2.0)
    take(again, 20)
    later = stream(3, a=1.0, b=2.0)
    later.restart(again.taken)
    assert take(later, 40) == whole[20:]
    assert take(stream(4, a=1.0, b=2.0), 60) != whole


def test_the_same_item_is_augmented_anew_in_each_epoch():
    drawn = [text for _, text in take(stream(), 20)]
    first, second = ({t.split()[0]: t.split()[1] for t in part} for part in (drawn[:10], drawn[10:]))
    assert first.keys() == second.keys()
    assert all(first[k] != second[k] for k in first)
    assert len(set(first.values())) == 10


def test_two_sources_of_one_kind_are_in_unlike_orders():
    s = data.Stream({"a": Words(50), "b": Words(50)}, {"a": 1.0, "b": 1.0}, 0, as_it_is)
    drawn = take(s, 200)
    a, b = ([int(t.split()[0]) for n, t in drawn if n == name][:50] for name in "ab")
    assert sum(x == y for x, y in zip(a, b, strict=True)) < 8


def test_a_look_takes_nothing():
    s, whole = stream(), take(stream(), 12)
    assert [s.look(i)[1][0].parts[0] for i in (4, 0, 11)] == [whole[i][1] for i in (4, 0, 11)]
    assert sum(s.taken.values()) == 0
    assert take(s, 12) == whole


@pytest.fixture(scope="module")
def planner(tokenizer):
    from anyany.model import Planner

    return Planner(tokenizer, {}, {})


def test_packed_documents_do_not_see_each_other(make_model, planner):
    """Another neighbour changes no hidden state and no loss of a document."""
    model = make_model(modality=False)
    s = data.Stream({"a": Words()}, {"a": 1.0}, 0, Planned(model.planner, 120))
    batch = packed(s, 120)[3]
    assert len(batch) > 2
    layout = Layout.pack([d.spans for d in batch], model.backbone.scheme)
    for number, (low, high) in enumerate(zip(layout.documents[:-1], layout.documents[1:], strict=True)):
        own = layout.intervals[low:high]
        assert (own[:, 1, 0] == low).all(), number
        assert (own[:, 1, 1] <= high).all(), number
    together = model(batch)["text"]
    with torch.no_grad():
        alone = [model([d])["text"] for d in batch]
    torch.testing.assert_close(together.total.detach(), sum(a.total for a in alone), rtol=1e-4, atol=1e-4)
    assert together.rows == sum(a.rows for a in alone)


def test_a_sample_that_is_too_long_names_its_source(planner):
    sources = {"short": Words(), "novels": Words(5, 200)}
    s = data.Stream(sources, {"short": 1e-9, "novels": 1.0}, 0, Planned(planner, 64))
    with pytest.raises(TruncationError, match=r"source 'novels'.*rows, a batch 64; raise rows"):
        packed(s, 64)


def test_a_sample_without_a_row_names_its_source(planner, monkeypatch):
    monkeypatch.setattr(planner.tokenizer, "marks", Marks())
    empty = Words()
    empty.sample = lambda index, draw: [Message("assistant", ("",))]
    with pytest.raises(DataError, match="source 'void'"):
        packed(data.Stream({"void": empty}, {"void": 1.0}, 0, Planned(planner, 64)), 64)


def test_samples_are_counted_in_the_order_of_the_stream():
    def batches(*counts: int) -> list[float]:
        s = data.Stream({"r": Readings()}, {"r": 1.0}, 0, as_it_is)
        return [m.readings[0, 0] for n in counts for batch in counted(s, n) for _, m in batch]

    assert sorted(batches(14)) == sorted([*range(7), *range(7)])
    assert batches(4, 10) == batches(14)


class Holes(Words):
    """Every third sample cannot be used."""

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        if index % 3 == 0:
            raise MediaDecodeError(f"sample {index} is damaged")
        return super().sample(index, draw)


def test_broken_samples_end_the_run_or_are_passed_over(planner):
    with pytest.raises(MediaDecodeError, match=r"sample [0369] is damaged"):
        take(data.Stream({"h": Holes()}, {"h": 1.0}, 0, as_it_is), 10)
    reports = []
    s = data.Stream({"h": Holes()}, {"h": 1.0}, 0, as_it_is, lambda *report: reports.append(report))
    indices = [int(text.split()[0]) for _, text in take(s, 12)]  # two epochs
    assert sorted(indices) == sorted([1, 2, 4, 5, 7, 8] * 2)
    assert {(name, index) for name, index, _ in reports} == {("h", i) for i in (0, 3, 6, 9)}
    assert s.taken == {"h": 12 + len(reports)}


def test_a_sample_that_no_component_takes_is_broken_too(planner):
    reports = []
    sources = {"w": Words(words=400)}
    s = data.Stream(sources, {"w": 1.0}, 0, Planned(planner, 64), lambda *report: reports.append(report))
    with pytest.raises(DataError, match="source 'w': the last 1000 samples cannot be used"):
        packed(s, 64)
    assert isinstance(reports[0][2], TruncationError)


def test_reports_are_written_once(tmp_path, capsys):
    for _ in range(2):  # the run goes on in another process
        reports = Reports(tmp_path / "broken.jsonl")
        for index in (3, 3, 4):
            reports("h", index, MediaDecodeError(f"sample {index}"))
    lines = [json.loads(line) for line in (tmp_path / "broken.jsonl").read_text().splitlines()]
    assert [(line["sample"], line["error"]) for line in lines] == [(3, "sample 3"), (4, "sample 4")]
    assert capsys.readouterr().out.count("passed over: sample 3") == 1


@pytest.fixture
def module(monkeypatch):
    import sys
    import types

    made = types.ModuleType("a_module_of_sources")
    made.Words, made.number = Words, 3
    monkeypatch.setitem(sys.modules, made.__name__, made)


def test_sources_are_built_from_their_factories(module):
    built = data.build_sources({"w": {"factory": "a_module_of_sources:Words", "options": {"size": 4}}})
    assert len(built["w"]) == 4
    with pytest.raises(RecipeError, match="source 'w': holds no samples"):
        data.build_sources({"w": {"factory": "a_module_of_sources:Words", "options": {"size": 0}}})


@pytest.mark.parametrize("target", ["nowhere:X", "a_module_of_sources:No", "a_module_of_sources", ":", "", "a..b:c"])
def test_factories_that_cannot_be_imported(module, target):
    with pytest.raises(AnyanyError, match="factory"):
        data.resolve(target)
