"""The same language model twice: written by transformers, and read by an importer. How far their logits are apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from parity.cases import VOCAB, Case
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

import anyany
from anyany.model import Model

PROMPT, STEPS = 24, 32
TEXTS = [
    "the quick brown fox jumps over the lazy dog, and the dog sleeps on",
    "pack my box with five dozen liquor jugs while the wizards quickly judge the sphinx of black quartz",
] * 4


def write(folder: Path, case: Case, seed: int = 0) -> Any:
    """A directory that transformers saved; gives what transformers reads from it, with plain attention."""
    torch.manual_seed(seed)
    made = stirred(case.kind(case.config()))
    made.save_pretrained(folder)
    write_tokenizer(folder)
    return case.kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


@torch.no_grad()
def stirred(made: Any) -> Any:
    """Far from uniform, and no norm or bias at its start value."""
    for parameter in made.parameters():
        noise = 0.3 * torch.randn_like(parameter)
        parameter.copy_(parameter + noise if parameter.dim() == 1 else parameter * 6 + noise / 3)
    return made


def write_tokenizer(folder: Path, *special: str) -> None:
    """Byte-level BPE, trained on a few sentences; further special tokens begin at 3."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<pad>", "<s>", "</s>", *special], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_words(folder: Path) -> None:
    """Every token is a word, so that equal text is equal tokens, whatever the bytes."""
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


class Apart(NamedTuple):
    """Largest differences of logits, and how far logits spread."""

    prefill: float
    steps: float
    uncached: float
    spread: float


@torch.no_grad()
def apart(theirs: Any, ours: Model, prompt: int = PROMPT, steps: int = STEPS) -> Apart:
    """Prefill of a prompt, then greedy steps over the cache; and all rows at once without one."""
    ids = torch.randint(3, VOCAB, (prompt,), generator=torch.Generator().manual_seed(1))
    first = theirs(ids[None], use_cache=True)
    wanted, cache = [first.logits[0]], first.past_key_values
    for _ in range(steps):
        ids = torch.cat([ids, wanted[-1][-1:].argmax(-1)])
        step = theirs(ids[None, -1:], past_key_values=cache, use_cache=True)
        wanted.append(step.logits[0])
        cache = step.past_key_values
    found = cached(ours, ids, prompt)
    far = [float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True)]
    whole = float((uncached(ours, ids) - theirs(ids[None], use_cache=False).logits[0]).abs().max())
    return Apart(far[0], max(far[1:], default=0.0), whole, float(wanted[0].std()))


def cached(model: Model, ids: Tensor, prompt: int) -> list[Tensor]:
    """Logits of the prompt, then of each further row on its own."""
    rows = model.text.embed(ids)
    return cached_rows(model, rows[:prompt], torch.arange(1, prompt + 1), rows[prompt:])


def cached_rows(model: Model, prompt: Tensor, sees: Tensor, more: Tensor) -> list[Tensor]:
    """The same for embedded rows, of which each row of the prompt sees as many as ``sees`` says."""
    pool = model.backbone.new_pool(len(prompt) + len(more), dtype=prompt.dtype, debug=True)
    run = pool.reserve(len(prompt) + len(more))
    out = []
    for rows in [prompt, *more.split(1)]:
        at = torch.arange(run.length, run.length + len(rows))
        slots = slice(*pool.append(run, len(rows)))
        intervals = torch.zeros(len(rows), 2, 2, dtype=torch.int32)
        intervals[:, 1, 0], intervals[:, 1, 1] = run.start, run.start + (at + 1 if out else sees)
        hidden = model.backbone(rows, at.float()[:, None].expand(-1, 3), intervals, cache=pool, slots=slots)
        out.append(model.text.logits(hidden))
    return out


def uncached(model: Model, ids: Tensor) -> Tensor:
    """Logits of all rows in one pass."""
    at = torch.arange(len(ids))
    intervals = torch.zeros(len(ids), 2, 2, dtype=torch.int32)
    intervals[:, 1, 1] = at + 1
    return model.text.logits(model.backbone(model.text.embed(ids), at.float()[:, None].expand(-1, 3), intervals))


def both(folder: Path, case: Case) -> tuple[Any, Model]:
    """Theirs and ours."""
    theirs = write(folder, case)
    return theirs, anyany.load(folder, device="cpu")
