"""Every value of a LLaVA's config is used or refused by its name, as ``test_config_values`` has it for text."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from parity.seeing import CASES, PROMPTS, apart, processor, write
from parity.test_config_values import LEFT, UNUSED, others

import anyany
from anyany.errors import CheckpointError

FIRST = CASES[0]
SEEN = {"image_token_index", "image_seq_length", "text_config", "vision_config"}
"""A token, which is held to the tokenizer; a number that transformers does not read; and what has fields of its own."""


@pytest.mark.slow
@pytest.mark.parametrize("part", ["whole", "tower"])
def test_each_value_is_used_or_refused(tmp_path, part):
    usual = FIRST.config() if part == "whole" else FIRST.config().vision_config
    used, told = set(), {}
    for key in sorted({f.name for f in fields(usual)} - LEFT - UNUSED - SEEN):
        for number, value in enumerate([*others(getattr(usual, key)), *([[-1, 2]] if "layer" in key else [])]):
            folder = tmp_path / f"{key}-{number}"
            case = FIRST._replace(**{part: {**getattr(FIRST, part), key: value}})
            try:
                theirs = write(folder, case)
                prepared = processor(folder, case)
                with torch.no_grad():
                    theirs(**dict(prepared(text="<image>", images=PROMPTS["one"][1].pixels, return_tensors="pt")))
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
    wanted = {
        "whole": {"multimodal_projector_bias", "tie_word_embeddings", "vision_feature_layer"},
        "tower": {"hidden_size", "intermediate_size", "num_hidden_layers", "layer_norm_eps", "hidden_act"},
    }
    assert wanted[part] <= used, used
    assert {"whole": "projector_hidden_act", "tower": "hidden_act"}[part] in told
    for key, message in told.items():
        assert key in message or "pictures of" in message
