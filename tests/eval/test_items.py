"""Tasks of items: a plugin that the core has never heard of is measured, the same each time, and no item is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from imu_plugin import Imu, ImuCodec, build_metric, build_task

from anyany.errors import DataError, PluginError, RequestError
from anyany.eval import items
from anyany.eval.run import Evaluation
from anyany.eval.scores import BATCH
from anyany.plugin import ANYANY_API, Item, Mean, MetricSpec, Task, TaskSpec, hookimpl


@pytest.fixture
def evaluation(make_model, plugins):
    def make(**options):
        return Evaluation(make_model(), plugins=plugins, **options)

    return make


def test_a_plugin_brings_a_task_and_a_metric(evaluation):
    (result,) = evaluation().run(["imu/again"])
    assert (result.task, result.metric, result.n, result.failed) == ("imu/again", "imu/error", 5, 0)
    figure = result.figures["imu/error"]
    truth = [ImuCodec().example(seed).readings for seed in range(5)]
    assert figure.baseline == pytest.approx(np.mean([np.abs(t).mean() for t in truth]))
    assert result.baseline == f"rest {figure.baseline:.3f}"
    assert not figure.higher_is_better
    assert json.loads(json.dumps(result.to_json()))["value"] == result.value


def test_the_value_is_that_of_the_replies(evaluation):
    made = evaluation(seed=3)
    (result,) = made.run(["imu/again"])
    task, metric = build_task(), build_metric()
    replies = made.ask.model.generate_batch([i.prompt for i in task.items], seed=3, want=["imu"])
    by_hand = [metric.measure(r.parts[0], [i.references[0][0]], ()) for r, i in zip(replies, task.items, strict=True)]
    assert result.value == pytest.approx(np.mean(by_hand))


def test_two_runs_are_equal_and_another_seed_is_not(evaluation):
    first, again, other = (next(evaluation(seed=seed).run(["imu/again"])) for seed in (0, 0, 1))
    assert first == again
    assert other.value != first.value
    assert replace(other, seed=0, value=first.value, figures=first.figures) == first


def test_without_draws_the_seed_changes_nothing(evaluation):
    one, other = (next(evaluation(seed=s, options={"temperature": 0.0}).run(["imu/again"])) for s in (0, 1))
    assert one.value == other.value
    assert one.options["sampling"]["imu"]["temperature"] == 0.0


def test_the_digest_follows_the_weights_and_the_adapter(evaluation):
    made = evaluation()
    before = next(made.run(["imu/again"], limit=1))
    model = made.ask.model
    model.adapters.add("a", ["backbone"], rank=2)
    model.adapters.use("a")
    adapted = next(Evaluation(model, plugins=made.plugins).run(["imu/again"], limit=1))
    _, _, down, _ = next(iter(model.adapters["a"].matrices()))
    down.data.add_(1.0)
    other = next(Evaluation(model, plugins=made.plugins).run(["imu/again"], limit=1))
    model.adapters.use(None)
    assert next(Evaluation(model, plugins=made.plugins).run(["imu/again"], limit=1)).model == before.model
    model.text.embedding.weight.data.add_(1.0)
    changed = next(Evaluation(model, plugins=made.plugins).run(["imu/again"], limit=1))
    assert len({before.model, adapted.model, other.model, changed.model}) == 4
    assert {"anyany", "torch", "plugin imu"} <= set(before.versions)


class Broken(list):
    """Item 1 cannot be opened, item 2 cannot be prompted, item 3 has no reference of the modality."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if index == 1:
            raise DataError("data: line 2 is torn")
        if index == 2:
            return replace(item, prompt=[3])
        return replace(item, references=(("words",),)) if index == 3 else item


def test_failures_are_told_and_counted_and_harm_no_other_item(evaluation):
    task = build_task()
    result = evaluation().task("mine", replace(task, items=Broken(task.items)))
    assert (result.n, result.failed) == (2, 3)
    assert [(f.item, f.metric) for f in result.failures] == [(1, ""), (2, ""), (3, "imu/error")]
    for failure, text in zip(result.failures, ("line 2 is torn", "got int", "0 parts of modality 'imu'"), strict=True):
        assert text in failure.error
    whole = evaluation().task("mine", task)
    alone = [evaluation(seed=i).task("one", replace(task, items=task.items[i : i + 1])).value for i in range(5)]
    assert whole.value == pytest.approx(np.mean(alone))  # item i has the seed i
    assert result.value == pytest.approx(np.mean([alone[0], alone[4]]))  # whatever became of its neighbours


def test_where_nothing_can_be_measured_there_is_no_value(evaluation):
    task = replace(build_task(), metrics=("exact-match",))
    result = evaluation().task("mine", task)
    assert (result.value, result.n, result.failed) == (None, 0, 5)


def test_neighbours_that_want_the_same_are_asked_together():
    wants = [("text",)] * (BATCH + 3) + [None] * 2 + [("text",)]
    made = [Item(prompt="a", references=(("b",),), want=want) for want in wants]
    groups = [(start, len(group)) for start, group in items._alike(made, len(made), [])]
    assert groups == [(0, BATCH), (BATCH, 3), (BATCH + 3, 2), (BATCH + 5, 1)]


def test_what_a_metric_looks_at():
    reading = Imu(np.ones((2, 3), np.float32))
    assert items.only(["a", reading, "b"], "text", "the reply") == "a b"
    assert items.only([reading], "text", "the reply") == ""
    assert items.only(["a", reading], "imu", "the reply") is reading
    for parts, modality, whose in (
        ([reading], "text", "the reference"), (["a"], "imu", "the reply"), ([reading] * 2, "imu", "the reply")
    ):  # fmt: skip
        with pytest.raises(DataError, match="the metric compares one"):
            items.only(parts, modality, whose)


@pytest.mark.parametrize(
    ("tasks", "metrics", "text"),
    [
        (["imu/agan"], [], "no task 'imu/agan'; did you mean 'imu/again'"),
        (["imu/again"], ["imu/eror"], "no metric 'imu/eror'; did you mean 'imu/error'"),
        (["imu/again", "nothing like it"], [], "there are image-to-text"),
        (["decides"], ["imu/error"], "takes no metric"),
    ],
)
def test_what_does_not_exist_is_named(evaluation, tasks, metrics, text):
    with pytest.raises(RequestError, match=text):
        next(evaluation().run(tasks, metrics=metrics))


def test_bad_options_are_told_before_anything_runs(evaluation):
    with pytest.raises(RequestError, match="temperature"):
        evaluation(options={"temperature": -1})
    with pytest.raises(RequestError, match="limit: expected at least one"):
        next(evaluation().run(["imu/again"], limit=0))
    with pytest.raises(RequestError, match="has no metric"):
        evaluation().task("mine", replace(build_task(), metrics=()))


def test_factories_that_make_something_else(evaluation, plugins):
    wrong = ModuleType("wrong")
    wrong.ANYANY_API = ANYANY_API
    wrong.anyany_tasks = hookimpl(
        lambda: [TaskSpec(id="wrong/one", factory="imu_plugin:build_metric")], specname="anyany_tasks"
    )
    wrong.anyany_metrics = hookimpl(
        lambda: [MetricSpec(id="wrong/two", modality="imu", factory="imu_plugin:build_task")],
        specname="anyany_metrics",
    )
    plugins.register(wrong, "wrong")
    with pytest.raises(PluginError, match="wrong/one: its factory must return a Task, got Mean"):
        next(evaluation().run(["wrong/one"]))
    with pytest.raises(PluginError, match="wrong/two: its factory must return a Metric, got Task"):
        next(evaluation().run(["imu/again"], metrics=["wrong/two"]))


def test_options_of_a_task_hold_unless_others_are_given(evaluation):
    task = Task(
        items=[Item(prompt="hello", references=(("x",),), want=("text",))], metrics=("exact-match",),
        options={"max_new_tokens": 2},
    )  # fmt: skip
    assert evaluation().task("t", task).options["max_new_tokens"] == 2
    assert evaluation(options={"max_new_tokens": 3}).task("t", task).options["max_new_tokens"] == 3


def test_a_metric_may_compare_one_modality_with_another():
    """Readings against words: the reply's part is an ``imu``, the reference's is text."""

    class Said:
        def measure(self, answer, references, prompt):
            return (len(answer.readings), references, prompt)

        def total(self, measured):
            return float(len(measured))

    reading = ImuCodec().example(0)
    tally = items.Tally(MetricSpec(id="x/y", modality="imu", against="text", factory="x:y"), Said())
    tally.take(Item(prompt=["say", reading], references=(("six", reading), ("6",))), ["no", reading])
    assert tally.measured == [(6, ["six", "6"], ["say", reading])]
    with pytest.raises(DataError, match="the reference has 0 parts of modality 'text'"):
        tally.take(Item(prompt="say", references=((reading,),)), [reading])
    with pytest.raises(DataError, match="no reference"):
        tally.take(Item(prompt="say", references=()), [reading])


@pytest.mark.parametrize("measured", [float("nan"), float("inf")])
def test_a_measure_that_is_no_number_is_the_failure_of_its_item(measured):
    tally = items.Tally(MetricSpec(id="x/y", modality="text", factory="x:y"), Mean(lambda *_: measured))
    with pytest.raises(DataError, match=f"x/y measured {measured}"):
        tally.take(Item(prompt="a", references=(("b",),)), ["c"])
    assert tally.figure().value is None


def test_a_metric_that_cannot_add_up_is_named():
    spec = MetricSpec(id="x/y", modality="text", factory="x:y")
    tally = items.Tally(spec, Mean(lambda *_: 1.0), measured=[float("nan")])
    with pytest.raises(PluginError, match=r"x/y: total\(\) of 1 items gave nan"):
        tally.figure()
    tally = items.Tally(spec, Mean(lambda *_: 1.0), measured=["a"])
    with pytest.raises(PluginError, match=r"x/y: total\(\) of 1 items failed: TypeError"):
        tally.figure()
