"""Every value of the config of a model that sees is used or refused, as ``test_config_values`` has it for text."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from parity.seeing import CASES, PROMPTS, apart, processor, theirs_of, write
from parity.test_config_values import LEFT, UNUSED, others

import anyany
from anyany.errors import CheckpointError

FIRST = {"LLaVA": CASES[0], "Gemma 3": next(case for case in CASES if case.gemma)}
SEEN = {
    "image_token_index", "boi_token_index", "eoi_token_index", "image_seq_length", "text_config", "vision_config",
}  # fmt: skip
"""Tokens, which are held to the tokenizer; a number that transformers does not read; and what has fields of its own."""
WANTED = {
    ("LLaVA", "whole"): {"multimodal_projector_bias", "tie_word_embeddings", "vision_feature_layer"},
    ("LLaVA", "tower"): {"hidden_size", "intermediate_size", "num_hidden_layers", "layer_norm_eps", "hidden_act"},
    ("Gemma 3", "whole"): {"tie_word_embeddings"},
    ("Gemma 3", "tower"): {"hidden_size", "intermediate_size", "num_hidden_layers", "layer_norm_eps", "hidden_act"},
}
ACT = "hidden_act"
TOLD = {("LLaVA", "whole"): "projector_hidden_act", ("LLaVA", "tower"): ACT, ("Gemma 3", "tower"): ACT}


@pytest.mark.slow
@pytest.mark.parametrize(("family", "part"), WANTED)
def test_each_value_is_used_or_refused(tmp_path, family, part):
    first = FIRST[family]
    usual = first.config() if part == "whole" else first.config().vision_config
    used, told = set(), {}
    for key in sorted({f.name for f in fields(usual)} - LEFT - UNUSED - SEEN):
        for number, value in enumerate([*others(getattr(usual, key)), *([[-1, 2]] if "layer" in key else [])]):
            folder = tmp_path / f"{key}-{number}"
            case = first._replace(**{part: {**getattr(first, part), key: value}})
            try:
                theirs = write(folder, case)
                prepared = processor(folder, case)
                with torch.no_grad():
                    theirs(**theirs_of(PROMPTS["one"], prepared))
            except Exception:  # transformers has no such model: as many kinds of error as reasons
                continue
            try:
                ours = anyany.load(folder, device="cpu")
            except CheckpointError as error:
                told[key] = str(error)
                continue
            far = apart(theirs, ours, PROMPTS["one"], prepared, steps=2)
            assert max(far.prefill, far.steps, far.uncached) < 1e-4, f"{key} = {value!r}"
            used.add(key)
    assert WANTED[family, part] <= used, used
    assert (family, part) not in TOLD or TOLD[family, part] in told
    for key, message in told.items():
        assert key in message or "pictures of" in message or "patches a side" in message
