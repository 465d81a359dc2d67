"""What test_distributed starts, once in one process and once in two: ``ranks.py FOLDER JOB ...``."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import imu_plugin
import numpy as np
import torch
from imu_plugin import Imu
from safetensors.torch import save_file

from anyany import Audio, Image
from anyany.backbone import BackboneConfig
from anyany.model import Model, TextTokenizer, compose
from anyany.parts import Message
from anyany.plugin.registry import Registry, registry
from anyany.training import ledger
from anyany.training.distributed import World, joined
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe
from anyany.training.sharding import whole

WORDS = ("one", "two", "three", "four", "five", "six", "seven")
BACKBONE = BackboneConfig(width=36, layers=2, heads=3, hidden=45)  # 36 rows are dealt out evenly, 45 are not
TOKENS = TextTokenizer.train([" ".join(WORDS)] * 4, 280)


class Readings:
    """Text and readings, both ways; 7 samples, so that epochs end within steps."""

    def __len__(self) -> int:
        return len(WORDS)

    def sample(self, index: int, draw: np.random.Generator) -> list[Message]:
        imu = Imu(draw.normal(size=(3, 3)).astype(np.float32))
        parts = (WORDS[index], imu) if draw.random() < 0.5 else (imu, WORDS[index])
        return [Message("user", parts[:1]), Message("assistant", parts[1:])]


class Named(Readings):
    """Pairs for the task bind."""

    def sample(self, index: int, draw: np.random.Generator) -> tuple[Imu, str]:
        return Imu(draw.normal(size=(index % 3 + 1, 3)).astype(np.float32)), WORDS[index]


class Pictures(Readings):
    """For the task codec."""

    def sample(self, index: int, draw: np.random.Generator) -> Image:
        return picture(draw)


def picture(draw: np.random.Generator) -> Image:
    return Image.from_array(draw.uniform(size=(28, 28)))


def with_readings() -> Model:
    plugins = Registry.isolated()
    plugins.register(imu_plugin, "imu")
    torch.manual_seed(0)
    codec = {"id": "imu/signs", "config": {"kind": "flow", "rows": 3, "fixed": True}}
    return compose(backbone=BACKBONE, tokenizer=TOKENS, encoders=["imu/linear"], decoders=[codec], plugins=plugins)


def with_media() -> Model:
    torch.manual_seed(0)
    return compose(
        backbone=BACKBONE, tokenizer=TOKENS, plugins=registry(),
        encoders=[{"id": "image/patch", "config": {"width": 24, "depth": 1, "heads": 2}},
                  {"id": "audio/logmel", "config": {"width": 24, "depth": 1, "heads": 2}}],
        decoders=[{"id": "image/fsq", "config": {"width": 16}}],
    )  # fmt: skip


MODELS = {"readings": with_readings, "media": with_media}


class Unlike:
    """In place of a run's batches: those with an even number hold text alone, the others hold no question in text."""

    def __init__(self, run: Run) -> None:
        self.run, self.number = run, 0

    def take(self):
        draw, number = np.random.default_rng(self.number), self.number
        self.number += 1
        word = Message("assistant", (WORDS[number % 7],))
        sound = Audio.from_array(draw.uniform(-0.5, 0.5, 4000).astype(np.float32), 16000)
        talks = (
            [[Message("user", ("one two",)), word], [Message("user", ("three",)), word]]
            if number % 2 == 0
            else [[Message("user", (picture(draw), sound)), word],
                  [Message("user", (sound,)), Message("assistant", (picture(draw),))]]
        )  # fmt: skip
        return [self.run.task.make("unlike", talk) for talk in talks], self.run.feed.state()

    def close(self) -> None:
        pass


def recipe(**changes):
    base = {
        "name": "ranks", "model": "readings", "sources": {"s": {"factory": "ranks:Readings"}}, "rates": {"": 3e-3},
        "steps": 3, "rows": 24, "accumulate": 2, "log_every": 1, "checkpoint_every": 2, "precision": "float32",
    }  # fmt: skip
    return make_recipe({**base, **changes})


def train(folder: Path, world: World, changes: dict, *, unlike: bool, spoil: int | None, until: int | None) -> None:
    """A run, and what each rank knows of it afterwards."""
    plan = recipe(**changes)
    run = Run(plan, folder, MODELS[plan.model](), world)
    if unlike:
        run.batches.close()
        run.batches = Unlike(run)
    run.resume()
    told = watch(run, spoil=spoil, until=until)
    gradients: dict[str, torch.Tensor] = {}
    run.optimizer.register_step_pre_hook(lambda *_: gradients.update({} if gradients else taken(run)))
    run.run()
    with run._whole():
        digests = ledger.digests(run.components)
        weights = {key: value.clone() for key, value in run.model.state_dict().items()}
    told |= {"digests": digests, "stopped": run.stopped, "step": run.step}
    (folder / f"rank{world.rank}-of-{world.size}-{run.step}.json").write_text(json.dumps(told))
    if world.first:
        save_file(weights, folder / "weights.safetensors")
        save_file(gradients, folder / "gradients.safetensors")


def taken(run: Run) -> dict[str, torch.Tensor]:
    """Gradients of a step, clipped, whole."""
    named = [(name, p.grad) for name, p in run.model.named_parameters() if p.grad is not None]
    return {name: whole(gradient).clone() for name, gradient in named}


def watch(run: Run, *, spoil: int | None, until: int | None) -> dict:
    """Notes losses and documents of each step; spoils a loss of the last rank at a step, and stops it at another."""
    told: dict = {"losses": {}, "norms": {}, "documents": []}
    step, own, loss = run.one_step, run._own_batches, run.task.loss
    last = run.world.size - 1

    def one_step():
        values = step()
        told["losses"][run.step], told["norms"][run.step] = values["loss"], values["norm"]
        if run.step == until and run.world.rank == last:
            run.asked = True
        return values

    def own_batches():
        mine = own()
        for number, batch in mine if run.recipe.task == "sequence" else ():
            told["documents"].append([run.step, number, [identity(document) for document in batch]])
        return mine

    def spoilt(batch, counts):
        value, terms = loss(batch, counts)
        bad = math.nan if run.step == spoil and run.world.rank == last else 1.0
        return value * bad, terms

    run.one_step, run._own_batches, run.task.loss = one_step, own_batches, spoilt
    return told


def identity(document) -> str:
    """What tells a sample from all others: its text, and its drawn numbers."""
    arrays = [piece.prepared.arrays for piece in document.pieces if piece.prepared is not None]
    return str([[piece.ids for piece in document.pieces], [float(a["x"].sum()) for a in arrays if "x" in a]])


def parity(folder: Path, world: World, cases: dict) -> None:
    """Every case in a folder of its own."""
    for name, case in cases.items():
        made = folder / name
        if world.first:
            made.mkdir(parents=True, exist_ok=True)
        world.wait()
        options = {"unlike": False, "spoil": None, "until": None, "changes": {}, **case}
        if world.size == 1:
            options["changes"] = {**options["changes"], "shard": False}
        train(made, world, **options)


def trouble(folder: Path, world: World, kind: str) -> None:
    """A run of which rank 1 fails, hangs, or gets a signal, at step 2."""
    run = Run(recipe(steps=10_000, checkpoint_every=10_000), folder, with_readings(), world)
    step = run.one_step

    def one_step():
        if run.step == 2 and world.rank == 1:
            if kind == "error":
                raise ValueError("rank 1 has had enough")
            if kind == "hang":
                (folder / "hangs").touch()
                time.sleep(600)
            if kind == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
        return step()

    run.one_step = one_step
    run.run()
    print(f"rank {world.rank} stopped at {run.step}: {run.stopped}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    folder, job, *rest = sys.argv[1:]
    seconds = 20 if rest == ["hang"] else 300
    with joined(timedelta(seconds=seconds)) as world:
        if job == "parity":
            parity(Path(folder), world, json.loads(Path(rest[0]).read_text()))
        else:
            trouble(Path(folder), world, rest[0])


if __name__ == "__main__":
    main()
