"""Models that see, twice: written by transformers, and read by an importer. How far their logits are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from parity.cases import SIZES, VOCAB
from parity.compare import Apart, cached_rows, stirred, write_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

import anyany
from anyany.model import Model
from anyany.model.opening import open_replies, plan_reply
from anyany.parts import Image, as_messages

STEPS = 32
SIDE, PATCH = 30, 7
"""Of a picture, in pixels: no multiple of each other, so that some are left over."""
IMAGE = 3
"""Id of the token that stands for a picture."""
SPECIAL = {False: ("<image>",), True: ("<boi>", "<eoi>", "<soft>")}
"""Special tokens of LLaVA, and of Gemma 3."""

TOWER = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 4, "num_attention_heads": 3, "image_size": SIDE,
    "patch_size": PATCH,
}  # fmt: skip


class Case(NamedTuple):
    """A family, and what differs from the usual: of the whole, of the language model, of the tower."""

    family: str
    variant: str
    whole: Mapping[str, Any] = MappingProxyType({})
    text: tuple[str, dict[str, Any]] = ("Llama", {})
    tower: Mapping[str, Any] = MappingProxyType({})
    edge: int = SIDE

    @property
    def name(self) -> str:
        return f"{self.family}: {self.variant}"

    @property
    def gemma(self) -> bool:
        return self.family == "Gemma 3"

    @property
    def kind(self) -> Any:
        stem = "Gemma3" if self.gemma else "Llava"
        return getattr(transformers, f"{stem}ForConditionalGeneration")

    def config(self) -> Any:
        stem, changes = self.text
        text = getattr(transformers, f"{stem}Config")(**{**SIZES, "num_hidden_layers": 3, **changes})
        if self.gemma:
            tower = transformers.SiglipVisionConfig(**{**TOWER, "vision_use_head": False, **self.tower})
            tokens = {"boi_token_index": IMAGE, "eoi_token_index": IMAGE + 1, "image_token_index": IMAGE + 2}
            return transformers.Gemma3Config(vision_config=tower, text_config=text, **tokens, **self.whole)
        tower = transformers.CLIPVisionConfig(**{**TOWER, **self.tower})
        return transformers.LlavaConfig(vision_config=tower, text_config=text, image_token_index=IMAGE, **self.whole)


CASES = [
    Case("LLaVA", "as LLaVA-1.5"),
    Case("LLaVA", "with the class row, last layer", {
        "vision_feature_select_strategy": "full", "vision_feature_layer": -1,
    }),
    Case("LLaVA", "three layers, no biases", {"vision_feature_layer": [-2, 1, 0], "multimodal_projector_bias": False}),
    Case("LLaVA", "Mistral, window of 9", text=("Mistral", {"sliding_window": 9}), tower={"hidden_act": "gelu"}),
    Case("LLaVA", "Qwen2, tied", text=("Qwen2", {"tie_word_embeddings": True})),
    Case("LLaVA", "other eps, larger pictures cut", tower={
        "layer_norm_eps": 0.1, "hidden_act": "gelu_pytorch_tanh",
    }, edge=37),
    Case("Gemma 3", "4 rows a picture, windows of 9", {"mm_tokens_per_image": 4}, ("Gemma3Text", {
        "head_dim": 12, "sliding_window": 9, "query_pre_attn_scalar": 20, "sliding_window_pattern": 3,
    })),
    Case("Gemma 3", "16 rows a picture, window as long", {"mm_tokens_per_image": 16}, ("Gemma3Text", {
        "head_dim": 8, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_hidden_layers": 4, "attention_bias": True,
    }), {"layer_norm_eps": 0.01}),
]  # fmt: skip


def write(folder: Path, case: Case, seed: int = 0) -> Any:
    """A directory that transformers saved; gives what transformers reads from it, with plain attention."""
    torch.manual_seed(seed)
    stirred(case.kind(case.config())).save_pretrained(folder)
    write_tokenizer(folder, *SPECIAL[case.gemma])
    processor(folder, case).save_pretrained(folder)
    return read(folder, case)


def read(folder: Path, case: Case) -> Any:
    """The model as transformers reads it."""
    return case.kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def processor(folder: Path, case: Case) -> Any:
    """Theirs, which expands the token of a picture and prepares pictures with Pillow."""
    names = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<soft>"} if case.gemma else {}
    tokens = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        additional_special_tokens=list(SPECIAL[case.gemma]), extra_special_tokens=names,
    )  # fmt: skip
    if case.gemma:
        pictures = Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE})
        return transformers.Gemma3Processor(pictures, tokens, image_seq_length=case.whole["mm_tokens_per_image"])
    pictures = CLIPImageProcessorPil(size={"shortest_edge": case.edge}, crop_size={"height": SIDE, "width": SIDE})
    return transformers.LlavaProcessor(
        pictures, tokens, patch_size=PATCH, num_additional_image_tokens=1,
        vision_feature_select_strategy=case.whole.get("vision_feature_select_strategy", "default"),
    )  # fmt: skip


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[Image]:
    """Of random pixels, height by width."""
    draw = np.random.default_rng(seed)
    return [Image(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


PROMPTS: dict[str, list[Any]] = {
    "no picture": ["the quick brown fox jumps over"],
    "one": ["the dog ", *pictures((40, 61)), " sleeps on the box"],
    "two of different sizes": ["the ", *pictures((90, 33), seed=1), "dog, and ", *pictures((17, 30), seed=2), " on"],
}


def theirs_of(prompt: Sequence[Any], processor: Any) -> dict[str, torch.Tensor]:
    """A prompt as their processor makes it."""
    text = "".join(part if isinstance(part, str) else processor.image_token for part in prompt)
    seen = [part.pixels for part in prompt if not isinstance(part, str)]
    return dict(processor(text=text, images=seen or None, return_tensors="pt"))


@torch.no_grad()
def apart(theirs: Any, ours: Model, prompt: Sequence[Any], processor: Any, steps: int = STEPS) -> Apart:
    """Prefill of a prompt, then greedy steps over the cache; and all rows of the prompt at once without one."""
    given = theirs_of(prompt, processor)
    first = theirs(**given, use_cache=True)
    wanted, cache, chosen = [first.logits[0]], first.past_key_values, []
    for _ in range(steps):
        chosen.append(wanted[-1][-1:].argmax(-1))
        step = theirs(input_ids=chosen[-1][None], past_key_values=cache, use_cache=True)
        wanted.append(step.logits[0])
        cache = step.past_key_values
    (opening,) = open_replies(ours, [(plan_reply(ours, as_messages(list(prompt))), 0)])
    more = ours.text.embed(torch.cat(chosen)) if chosen else opening.rows[:0]
    found = cached_rows(ours, opening.rows, opening.sees, more)
    far = [float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True)]
    whole = float((ours.logits(list(prompt)) - wanted[0]).abs().max())
    return Apart(far[0], max(far[1:], default=0.0), whole, float(wanted[0].std()))


def both(folder: Path, case: Case) -> tuple[Any, Model, Any]:
    """Theirs, ours, and their processor."""
    theirs = write(folder, case)
    return theirs, anyany.load(folder, device="cpu"), processor(folder, case)


def write_words(folder: Path, case: Case) -> None:
    """Every token is a word, so that equal text is equal tokens, whatever the bytes."""
    names = dict(enumerate(SPECIAL[case.gemma], IMAGE))
    words = {names.get(i, f"w{i}"): i for i in range(VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL[case.gemma]))
    tokenizer.save(str(folder / "tokenizer.json"))
