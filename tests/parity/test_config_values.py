"""Every value of a config is used or refused by its name: each field of transformers' own class is changed in turn."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
import transformers
from parity.cases import CASES
from parity.compare import apart, write

import anyany
from anyany.errors import CheckpointError, LayoutError

FIRST = [next(c for c in CASES if c.family == family) for family in dict.fromkeys(c.family for c in CASES)]
LEFT = {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "rope_parameters", "initializer_range"}
"""Tokens, which are checked against the tokenizer; rotary positions, of which the cases have every kind; and how far
weights lie apart at first, with which rounding grows."""
UNUSED = {f.name for f in fields(transformers.PreTrainedConfig)} - {"is_encoder_decoder"}


def others(value: Any) -> list[Any]:
    """Other values of the same kind; of ``None``, whatever transformers may take."""
    if value is None:
        return [True, 5, 0.5, [1, 0, 1, 0]]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 2 * value]
    if isinstance(value, float):
        return [1.5 * value + 0.25, None]
    if isinstance(value, str):
        return ["relu", "gelu", "silu"]
    return [value[::-1]]


@pytest.mark.slow
@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.family)
def test_each_value_is_used_or_refused(tmp_path, case):
    usual, used, told = case.config(), set(), {}
    for key in sorted({f.name for f in fields(usual)} - LEFT - UNUSED):
        for number, value in enumerate(others(getattr(usual, key))):
            folder = tmp_path / f"{key}-{number}"
            try:
                theirs = write(folder, case._replace(changes={**case.changes, key: value}))
                theirs(torch.arange(3, 9)[None])
            except Exception:  # transformers has no such model: as many kinds of error as reasons
                continue
            try:
                ours = anyany.load(folder, device="cpu")
            except (CheckpointError, LayoutError) as error:
                told[key] = str(error)
                continue
            far = apart(theirs, ours, steps=2)
            assert max(far.prefill, far.steps, far.uncached) < 1e-4, f"{key} = {value!r}"
            used.add(key)
    assert len(used) > 10
    assert {"hidden_act", "hidden_activation", "activation_function"} & told.keys()
    for key, message in told.items():
        assert key in message or (key == "head_dim" and "even head width" in message)
