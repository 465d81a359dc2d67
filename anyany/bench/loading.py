"""Reading a Hugging Face directory of about 1 GB: time and peak of memory, against ``from_pretrained``.

``python -m anyany.bench.loading ours FOLDER`` prints seconds, and the bytes that the process grew by at its peak.
Imports are not counted; a first row through the model is, since transformers reads its weights no sooner.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from anyany.bench.footprint import status
from anyany.bench.measure import Figure, quartiles
from anyany.bench.memory import program
from anyany.bench.twins import VOCABULARIES, llama, write

SIZE = "240m"
SIDES = ("ours", "theirs")


def seconds(rounds: int) -> Figure:
    """Time of ``from_pretrained`` and one row over ours; the file is in the system's memory for both."""
    ratios = [theirs[0] / ours[0] for ours, theirs in _measured(rounds)]
    return Figure(
        id="load-time",
        what="time until a checkpoint of 1 GB has answered one row, float32",
        quartiles=quartiles(ratios),
        peer="transformers from_pretrained",
        goal=1 / 1.2,
    )


def memory(rounds: int) -> Figure:
    """Bytes of the weights over the peak of loading them: 1 is a single copy."""
    size = 4 * sum(p.numel() for p in llama(SIZE, VOCABULARIES[SIZE]).parameters())
    return Figure(
        id="load-memory",
        what="bytes of the weights over the peak of loading them",
        quartiles=quartiles([size / ours[1] for ours, _ in _measured(rounds)]),
        peer="one copy",
        goal=0.9,
    )


@cache
def _measured(rounds: int) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Seconds and bytes of ours and theirs in each round, behind one that is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        write(llama(SIZE, VOCABULARIES[SIZE]), Path(folder))
        found = [tuple(_numbers(program("loading", side, folder)) for side in SIDES) for _ in range(rounds + 1)]
    return found[1:]  # type: ignore[return-value]


def _numbers(text: str) -> tuple[float, float]:
    spent, grown = map(float, text.split())
    return spent, grown


def _first(side: str) -> Callable[[Path], object]:
    """What loads and passes a row, with everything imported."""
    if side == "ours":
        from anyany.importers.huggingface import load_huggingface
        from anyany.plugin.registry import registry

        registry()
        return lambda folder: load_huggingface(folder).logits("w5")
    from transformers import LlamaForCausalLM

    def theirs(folder: Path) -> object:
        with torch.inference_mode():
            return LlamaForCausalLM.from_pretrained(folder, dtype="float32")(torch.tensor([[5]])).logits

    return theirs


if __name__ == "__main__":
    first = _first(sys.argv[1])
    before, started = status("VmRSS"), time.perf_counter()
    first(Path(sys.argv[2]))
    print(time.perf_counter() - started, status("VmHWM") - before)
