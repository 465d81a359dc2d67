"""The loop: one step is a pure function of weights, optimiser, random state and position.

A run that is killed at any moment goes on from its last checkpoint bit for bit, on the CPU.
"""

from __future__ import annotations

import json
import math
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anyany.errors import RecipeError
from anyany.model import Model, load, save
from anyany.training import checkpoint, data, ledger, optim
from anyany.training.ahead import Ahead
from anyany.training.average import Average
from anyany.training.metrics import Metrics
from anyany.training.once import Once
from anyany.training.recipe import Recipe
from anyany.training.reports import Reports
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
    """

    def __init__(self, recipe: Recipe, folder: Path, model: Model | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.recipe, self.folder = recipe, folder
        torch.manual_seed(recipe.seed)
        self.model = model if model is not None else _start(recipe.model)
        sources = data.build_sources(recipe.sources)
        weights = {name: float(s.get("weight", 1.0)) for name, s in recipe.sources.items()}
        broken = Reports(folder / "broken.jsonl") if recipe.on_broken == "skip" else None
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
        groups = optim.parameter_groups(self.components, rates, weight_decay=recipe.weight_decay)
        self.optimizer = optim.adamw(groups)
        self.average = Average(self.model, recipe.ema) if recipe.ema else None
        self.model.backbone.recompute = recipe.recompute
        self.schedule, self.autocast = recipe.plan(), optim.autocasts(recipe.precision)
        self.once = Once(self.model, Store(Path(recipe.store))) if recipe.store is not None else None
        self.step = 0
        self.begun = ledger.digests(self.components)
        self.norms: dict[str, float] = {}
        self.position = self.feed.state()  # of the data behind this step; the feed itself is ahead of it
        self.batches = Ahead(self._batch, self.feed.size)
        self.writer = Writer(folder, recipe.keep)
        self.stopped = False
        self.skipped = 0  # in a row
        (folder / "recipe.json").write_text(json.dumps(recipe.to_json(), indent=1) + "\n")

    # State.

    def save_state(self) -> None:
        """Begin to write a checkpoint from which the run goes on exactly; ``writer.wait()`` until it is written."""
        self.writer.wait()  # before the copy is made, so that there are never two
        if self.once is not None:
            self.once.store.flush()  # what a checkpoint was trained on is there when it is gone on from
        tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= checkpoint.pack_optimizer(self.optimizer)
        tensors |= self.average.tensors() if self.average is not None else {}
        tensors["random"] = torch.get_rng_state()
        state = {"step": self.step, "data": self.position, "recipe": self.recipe.to_json(), "begun": self.begun}
        self.writer.write(checkpoint.snapshot(self.step, tensors, state))

    def resume(self) -> bool:
        """Go on from the newest whole checkpoint; returns whether there was one.

        Raises:
            RecipeError: The checkpoint was made by a recipe that trains something else.
        """
        found = checkpoint.load_latest(self.folder)
        if found is None:
            return False
        mine, theirs = self.recipe.to_json(), found.state["recipe"]
        fixed = ("model", "sources", "rates", "lora", "seed", "rows", "task", "ema")
        changed = [k for k in fixed if _plain(mine[k]) != theirs[k]]
        if changed:
            raise RecipeError(
                f"resume: the run in {self.folder} was begun with another {', '.join(changed)}; choose a new folder"
            )
        own = {k.removeprefix("model."): v for k, v in found.tensors.items() if k.startswith("model.")}
        self.model.load_state_dict(own)
        checkpoint.unpack_optimizer(self.optimizer, found.tensors)
        if self.average is not None:
            self.average.load(found.tensors)
        torch.set_rng_state(found.tensors["random"])
        self.step, self.position, self.begun = found.step, found.state["data"], found.state["begun"]
        self.feed.restore(self.position)
        return True

    def entries(self) -> list[ledger.Entry]:
        """What is trained, and what has changed since the run began."""
        return ledger.entries(self.components, self.begun, self.norms)

    # Steps.

    def run(self) -> None:
        """Train until the last step, or until a stop signal; the state is saved either way."""
        old = signal.signal(signal.SIGTERM, self._stop)
        try:
            if self.step == 0:
                self.task.begin(self.stream.fresh())
            self._steps()
        finally:
            signal.signal(signal.SIGTERM, old)
            self.close()
            self.model.eval()
        if not self.stopped:
            self._save_result()

    def _save_result(self) -> None:
        """The ledger, the adapter if there is one, and the model if anything of it has changed."""
        entries = self.entries()
        (self.folder / "components.json").write_text(json.dumps([e.to_json() for e in entries], indent=1) + "\n")
        with self.average.in_place() if self.average is not None else nullcontext():
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
        metrics = Metrics(self.folder, self.recipe.steps, self.step, self._tracker())
        self.model.train()
        seen: dict[str, list[float]] = {}
        saved = -1
        try:
            while self.step < self.recipe.steps and not self.stopped:
                self.writer.check()
                for name, value in self.one_step().items():
                    seen.setdefault(name, []).append(value)
                if self.step % self.recipe.log_every == 0:
                    metrics.log(self.step, {name: sum(values) / len(values) for name, values in seen.items()})
                    seen = {}
                if self.step % self.recipe.checkpoint_every == 0:
                    self.save_state()
                    saved = self.step
            if saved != self.step:
                self.save_state()
            self.writer.wait()
        finally:
            metrics.close()

    def one_step(self) -> dict[str, float]:
        """Forward, backward, clip, update; returns what is worth logging."""
        optim.set_rates(self.optimizer, self.schedule(self.step))
        batches = []
        for _ in range(self.recipe.accumulate):
            batch, self.position = self.batches.take()
            batches.append(batch)
        counts: Counter[str] = Counter()
        for batch in batches:
            counts.update(self.task.count(batch))
        values: Counter[str] = Counter()
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                loss, terms = self.task.loss(batch, counts)
            loss.backward()
            values.update(terms)
        if (self.step + 1) % self.recipe.log_every == 0 or self.step + 1 == self.recipe.steps:
            self.norms = optim.norms(self.optimizer.param_groups)
        norm = optim.clip([p for g in self.optimizer.param_groups for p in g["params"]], self.recipe.clip)
        self.step += 1
        if self.once is not None:
            values.update(self.once.values())
        values["skipped"] = float(not math.isfinite(norm))
        if values["skipped"]:
            self._skip()
        else:
            self.skipped = 0
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        return {**values, "norm": norm}

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

    def _batch(self) -> tuple[Any, dict[str, Any]]:
        """The next batch, and where the data stand once it is trained on."""
        return self.task.batch(self.feed.take()), self.feed.state()

    def _adapter(self, lora: Mapping[str, Any]) -> nn.Module:
        options = {key: lora[key] for key in ("rank", "alpha") if key in lora}
        adapter = self.model.adapters.add(ADAPTER, lora["targets"], **options)
        self.model.adapters.use(ADAPTER)
        return adapter

    def _tracker(self) -> Tracker | None:
        name = self.recipe.tracker
        return Tracker(name, self.recipe.name, self.recipe.to_json()) if name else None

    def _stop(self, *_: Any) -> None:
        self.stopped = True


def _start(target: str) -> Model:
    return data.resolve(target)() if ":" in target else load(target, device="cpu")


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def train(recipe: Recipe, folder: Path) -> Run:
    """Run a recipe in a folder, from its newest checkpoint where there is one."""
    run = Run(recipe, folder)
    run.resume()
    run.run()
    return run
