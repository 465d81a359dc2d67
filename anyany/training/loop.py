"""The loop: one step is a pure function of weights, optimiser, random state and position.

A run that is killed at any moment goes on from its last checkpoint bit for bit, on the CPU. Several ranks share the
batches of each step (``distributed``); rank 0 alone writes and prints.
"""

from __future__ import annotations

import json
import math
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyany.errors import RecipeError
from anyany.model import Model, load, save
from anyany.training import checkpoint, data, ledger, optim, order
from anyany.training.ahead import Ahead
from anyany.training.average import Average
from anyany.training.distributed import ALONE, World, joined, numbers
from anyany.training.metrics import Metrics
from anyany.training.once import Once
from anyany.training.recipe import Recipe
from anyany.training.reports import Reports
from anyany.training.sharding import Sharded, in_shards, own
from anyany.training.store import Store
from anyany.training.tasks import TASKS, Task
from anyany.training.trackers import Tracker
from anyany.training.workers import Workers
from anyany.training.writer import Writer

MOST_SKIPPED = 20
"""Steps in a row without a finite gradient after which a run ends: weights that give none once give none again."""
ADAPTER = "adapter"
"""Name of the adapter that a run trains, and of its line in the ledger."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Run:
    """One training run in a folder.

    Args:
        recipe: What to do.
        folder: Checkpoints, metrics and the result go here.
        model: Instead of the recipe's own.
        world: The processes that train together, from ``distributed.joined``.

    Raises:
        RecipeError: The recipe and the number of ranks do not fit together.
    """

    def __init__(self, recipe: Recipe, folder: Path, model: Model | None = None, world: World = ALONE) -> None:
        _check_ranks(recipe, world.size)
        folder.mkdir(parents=True, exist_ok=True)
        self.recipe, self.folder, self.world = recipe, folder, world
        torch.manual_seed(recipe.seed)
        self.model = model if model is not None else _start(recipe.model)
        if self.model.adapters.merged:
            raise RecipeError(
                f"train: the adapter {self.model.adapters.merged[0]!r} is merged; unmerge or save it first"
            )
        self.model.requires_grad_(False)  # what trains is said below; adapters that the model has already do not
        sources = data.build_sources(recipe.sources)
        weights = {name: float(s.get("weight", 1.0)) for name, s in recipe.sources.items()}
        broken: data.Broken | None = None
        if recipe.on_broken == "skip":  # all ranks make all samples, so that one report tells everything
            broken = Reports(folder / "broken.jsonl") if world.first else lambda *_: None
        self.task: Task = TASKS[recipe.task](self.model, recipe)
        self.workers = Workers(recipe.sources, recipe.seed, self.task.make, recipe.workers) if recipe.workers else None
        results = None if self.workers is None else self.workers.results
        self.stream = data.Stream(sources, weights, recipe.seed, self.task.make, broken, results)
        self.feed = self.task.batches(self.stream)
        self.components: dict[str, nn.Module] = dict(self.model.components)
        rates = dict(recipe.rates)
        if recipe.lora is not None:
            rates[ADAPTER] = recipe.lora["rate"]
            self.components[ADAPTER] = self._adapter(recipe.lora)
        self.begun = ledger.digests(self.components)
        self.sharded = Sharded(self.model.backbone, world.size) if recipe.shard else None
        groups = optim.parameter_groups(self.components, rates, weight_decay=recipe.weight_decay)
        self.optimizer = optim.adamw(groups)
        self.average = Average(self.model, recipe.ema) if recipe.ema else None
        self.model.backbone.recompute = recipe.recompute
        self.schedule, self.autocast = recipe.plan(), optim.autocasts(recipe.precision)
        self.once = Once(self.model, Store(Path(recipe.store))) if recipe.store is not None else None
        self.during = self._during() if recipe.evaluate is not None else None
        self.step = 0
        self.norms: dict[str, float] = {}
        self.position = self.feed.state()  # of the data behind this step; the feed itself is ahead of it
        self.batches = Ahead(self._batch, self.feed.size)
        self.writer = Writer(folder, recipe.keep)
        self.asked = self.stopped = False  # this rank was told to stop; all ranks have stopped
        self.skipped = self.idle = 0  # steps in a row without a finite gradient, and without any

    # State.

    def save_state(self) -> None:
        """Begin to write a checkpoint from which the run goes on exactly; ``writer.wait()`` until it is written."""
        self.writer.wait()  # before the copy is made, so that there are never two
        if self.once is not None:
            self.once.store.flush()  # what a checkpoint was trained on is there when it is gone on from
        tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= optim.pack_optimizer(self.optimizer)
        tensors |= self.average.tensors() if self.average is not None else {}
        state = {"step": self.step, "data": self.position, "recipe": self.recipe.to_json(), "begun": self.begun}
        self.world.wait()  # until every rank has flushed
        if self.sharded is not None:  # all ranks write, and none goes on before all have
            mine = checkpoint.snapshot(self.step, own(tensors, first=self.world.first), state)
            checkpoint.write(self.folder, mine, keep=self.recipe.keep, world=self.world)
        elif self.world.first:
            self.writer.write(checkpoint.snapshot(self.step, tensors, state))

    def resume(self) -> bool:
        """Go on from the newest whole checkpoint; returns whether there was one.

        Raises:
            RecipeError: The checkpoint was made by a recipe that trains something else.
        """
        found = checkpoint.load_latest(self.folder)
        self.world.same("checkpoints", found and found.step)
        if found is None:
            return False
        mine, theirs = self.recipe.to_json(), found.state["recipe"]
        fixed = ("model", "sources", "rates", "lora", "seed", "rows", "task", "ema")
        changed = [key for key in fixed if _told(key, mine) != _told(key, theirs)]
        if changed:
            raise RecipeError(
                f"resume: the run in {self.folder} was begun with another {', '.join(changed)}; choose a new folder"
            )
        weights = {k.removeprefix("model."): v for k, v in found.tensors.items() if k.startswith("model.")}
        self.model.load_state_dict(weights)
        optim.unpack_optimizer(self.optimizer, found.tensors)
        if self.average is not None:
            self.average.load(found.tensors)
        self.step, self.position, self.begun = found.step, found.state["data"], found.state["begun"]
        self.feed.restore(self.position)
        return True

    def entries(self) -> list[ledger.Entry]:
        """What is trained, and what has changed since the run began."""
        with self._whole():
            return ledger.entries(self.components, self.begun, self.norms)

    def _whole(self) -> AbstractContextManager[None]:
        return self.sharded.whole() if self.sharded is not None else nullcontext()

    def _check_weights(self) -> None:
        """Hold the ranks to each other; one process has nobody to differ from."""
        if self.world.size > 1:
            with self._whole():
                self.world.same("weights", ledger.digests(self.components))

    # Steps.

    def run(self) -> None:
        """Train until the last step, or until a stop signal; the state is saved either way."""
        old = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        if self.world.first:
            (self.folder / "recipe.json").write_text(json.dumps(self.recipe.to_json(), indent=1) + "\n")
        try:
            if self.step == 0:
                self.task.begin(self.stream.fresh())
            self._check_weights()
            self._steps()
            self._check_weights()
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            self.close()
            self.model.eval()
        if not self.stopped:
            self._save_result()
        self.world.wait()  # a rank that ends early would have the others ended before rank 0 has written

    def _save_result(self) -> None:
        """The ledger, the adapter if there is one, and the model if anything of it has changed."""
        entries = self.entries()
        with self.average.in_place() if self.average is not None else nullcontext(), self._whole():
            if not self.world.first:
                return
            (self.folder / "components.json").write_text(json.dumps([e.to_json() for e in entries], indent=1) + "\n")
            if self.recipe.lora is not None:
                self.model.save_adapter(ADAPTER, self.folder / "adapter")
            if self.recipe.lora is None or any(entry.changed for entry in entries if entry.name != ADAPTER):
                save(self.model, self.folder / "model", dtype=DTYPES[self.recipe.dtype])

    def close(self) -> None:
        """End the thread and the processes that make batches; after this the run gives no step."""
        if self.workers is not None:
            self.workers.close()  # first: the thread may be waiting for them
        self.batches.close()
        self.writer.close()
        if self.once is not None:
            self.once.close()

    def _steps(self) -> None:
        first = self.world.first
        metrics = Metrics(self.folder, self.recipe.steps, self.step, self._tracker()) if first else None
        self.model.train()
        seen: dict[str, list[float]] = {}
        saved = -1
        try:
            while self.step < self.recipe.steps and not self.stopped:
                self.writer.check()
                for name, value in self.one_step().items():
                    seen.setdefault(name, []).append(value)
                if self.step % self.recipe.log_every == 0 or self.step == self.recipe.steps:
                    if metrics is not None:
                        metrics.log(self.step, {name: sum(values) / len(values) for name, values in seen.items()})
                    seen = {}
                self.stopped = self.world.agree(self.asked)
                if self.step % self.recipe.checkpoint_every == 0:
                    self.save_state()
                    saved = self.step
                if metrics is not None and self.during is not None and self._due():
                    metrics.log(self.step, self._measured(self.during))
            if saved != self.step:
                self.save_state()
            self.writer.wait()
        finally:
            if metrics is not None:
                metrics.close()

    def _due(self) -> bool:
        """Whether figures are wanted behind this step."""
        every = (self.recipe.evaluate or {}).get("every", self.recipe.steps)
        return not self.stopped and (self.step == self.recipe.steps or self.step % every == 0)

    def _measured(self, during: Callable[[int], dict[str, float]]) -> dict[str, float]:
        """Figures of what the result would be now; training goes on as if nothing had been."""
        self.model.eval()
        try:
            with self.average.in_place() if self.average is not None else nullcontext():
                return during(self.step)
        finally:
            self.model.train()

    def one_step(self) -> dict[str, float]:
        """Forward, backward, clip, update; returns what is worth logging."""
        optim.set_rates(self.optimizer, self.schedule(self.step))
        batches = self._own_batches()
        mine: Counter[str] = Counter()
        for _, batch in batches:
            mine.update(self.task.count(batch))
        counts = self.world.sum_counts(mine)
        parts: Counter[str] = Counter()
        with self.world.summing_changes(numbers(self.components.values())):
            for number, batch in batches:
                torch.manual_seed(order.mix(self.recipe.seed, self.step, number))  # the same noise, whoever draws it
                with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                    loss, terms = self.task.loss(batch, counts)
                if loss.requires_grad:  # a batch may hold nothing of what trains
                    loss.backward()
                parts.update(terms)
        values = self.world.sum_counts(parts)
        trained = [p for g in self.optimizer.param_groups for p in g["params"]]
        self.world.sum_gradients([p for p in trained if not in_shards(p)])
        self._check_reached(trained)
        if (self.step + 1) % self.recipe.log_every == 0 or self.step + 1 == self.recipe.steps:
            self.norms = optim.norms(self.optimizer.param_groups)
        norm = optim.clip(trained, self.recipe.clip)
        self.step += 1
        if self.once is not None:
            values.update(self.once.values())
        values["skipped"] = float(self.world.agree(not math.isfinite(norm)))
        if values["skipped"]:
            self._skip()
        else:
            self.skipped = 0
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        return {**values, "norm": norm}

    def _check_reached(self, trained: Sequence[nn.Parameter]) -> None:
        """End a run of which nothing is trained by its data."""
        self.idle = 0 if any(p.grad is not None for p in trained) else self.idle + 1
        if self.idle == min(MOST_SKIPPED, self.recipe.steps):
            names = ", ".join(sorted({group["name"].rpartition(":")[0] for group in self.optimizer.param_groups}))
            raise RecipeError(
                f"step {self.step + 1}: in {self.idle} steps no gradient has reached {names}; the task "
                f"{self.recipe.task!r} and its data train nothing of that"
            )

    def _skip(self) -> None:
        """Leave weights, optimiser and average as they are, if that is wanted and can help."""
        self.skipped += 1
        if self.recipe.on_nan == "stop":
            raise RecipeError(f"step {self.step}: the gradient is not finite; lower the rates, or set on_nan = 'skip'")
        if self.skipped == MOST_SKIPPED:
            raise RecipeError(
                f"step {self.step}: the gradient of {MOST_SKIPPED} steps in a row is not finite, so that skipping does "
                "not help; lower the rates, or look at the data"
            )

    def _own_batches(self) -> list[tuple[int, Any]]:
        """This rank's batches of the step, with their numbers: batch i is for rank i modulo the number of ranks."""
        batches = []
        for number in range(self.recipe.accumulate):
            batch, self.position = self.batches.take()
            if number % self.world.size == self.world.rank:
                batches.append((number, batch))
        return batches

    def _batch(self) -> tuple[Any, dict[str, Any]]:
        """The next batch, and where the data stand once it is trained on."""
        return self.task.batch(self.feed.take()), self.feed.state()

    def _adapter(self, lora: Mapping[str, Any]) -> nn.Module:
        options = {key: lora[key] for key in ("rank", "alpha") if key in lora}
        adapter = self.model.adapters.add(ADAPTER, lora["targets"], **options)
        self.model.adapters.use(ADAPTER)
        return adapter

    def _during(self) -> Callable[[int], dict[str, float]]:
        from anyany.eval.during import During

        return During(self.model, self.recipe.evaluate or {}, self.folder)

    def _tracker(self) -> Tracker | None:
        name = self.recipe.tracker
        return Tracker(name, self.recipe.name, self.recipe.to_json()) if name else None

    def _stop(self, *_: Any) -> None:
        """End behind this step with a checkpoint; asked twice, end at once."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def _start(target: str) -> Model:
    return data.resolve(target)() if ":" in target else load(target, device="cpu")


def _check_ranks(recipe: Recipe, size: int) -> None:
    if recipe.accumulate % size:
        raise RecipeError(
            f"recipe: a step of accumulate = {recipe.accumulate} batches cannot be dealt out evenly to {size} ranks; "
            f"set accumulate to a multiple of {size}: it counts the batches of all ranks"
        )
    if recipe.shard and size == 1:
        raise RecipeError("recipe: shard needs several ranks; start them by torchrun, or set shard = false")


def _told(key: str, recipe: Mapping[str, Any]) -> str:
    """A key of a recipe, to be compared; sources count in their order, which the mixture goes by."""
    return json.dumps(recipe[key], sort_keys=key != "sources")


def train(recipe: Recipe, folder: Path) -> Run:
    """Run a recipe in a folder, from its newest checkpoint where there is one."""
    with joined() as world:
        run = Run(recipe, folder, world=world)
        run.resume()
        run.run()
    return run
