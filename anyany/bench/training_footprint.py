"""Memory of training steps, in bytes; run as a program, in a process where nothing else allocates.

``python -m anyany.bench.training_footprint ours full FOLDER 4`` takes steps with 4 conversations and prints the peak,
weights included and imports not, and the first loss. FOLDER is from ``twins.write``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from anyany.bench import learners, mixture
from anyany.bench.footprint import status
from anyany.bench.learners import Learner

STEPS = 2
"""The state of the optimiser is made at the end of the first, and stands beside the gradients in the second."""


def measured(side: str, trains: str, folder: Path, batch: int) -> tuple[int, float]:
    """Peak in bytes beyond what the process had before it held a model, and the loss of the first step.

    Args:
        side: ``ours``, ``recompute``, which is ours with it, or ``theirs``.
        trains: ``lora`` or ``full``.
        folder: Both sides read their weights from it.
        batch: Conversations of a step.
    """
    if side == "theirs":
        import peft  # noqa: F401
        import transformers  # noqa: F401
    before = status("VmRSS")
    learner = _learner(side, folder, batch, lora=trains == "lora")
    Path("/proc/self/clear_refs").write_text("5")  # the peak of reading the weights is forgotten
    losses = [learner.step() for _ in range(STEPS)]
    return status("VmHWM") - before, losses[0]


def _learner(side: str, folder: Path, batch: int, *, lora: bool) -> Learner:
    conversations = mixture.conversations(batch)
    if side == "theirs":
        from transformers import LlamaForCausalLM

        language = LlamaForCausalLM.from_pretrained(folder, dtype="float32")
        return learners.theirs(language, mixture.model(folder), conversations, lora=lora)
    learner = learners.ours(folder, conversations, lora=lora)
    learner.model.backbone.recompute = side == "recompute"  # type: ignore[union-attr]
    return learner


if __name__ == "__main__":
    print(*measured(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
