"""Heads learn small tasks inside a model, on the CPU, their ends included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from imu_plugin import Imu

from anyany.heads import build
from anyany.parts import Message
from anyany.plugin import Vectors

SIGNS = {
    "one": [[1, 1, 1]],
    "two": [[-1, 1, -1], [1, -1, 1]],
    "three": [[1, 1, -1], [-1, -1, 1], [1, -1, -1]],
    "four": [[-1, -1, -1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1]],
}


def readings(word: str, rows: int | None = None) -> np.ndarray:
    """What a word stands for: of its own length, or always ``rows``."""
    signs = np.array(SIGNS[word], np.float32)
    return 0.7 * (signs if rows is None else np.resize(signs, (rows, 3)))


def teach(model, rows: int | None, steps: int) -> float:
    """Train on all words at once; returns the last loss of the modality's head."""
    torch.manual_seed(1)
    documents = [
        model.planner.plan([Message("user", (w,)), Message("assistant", (Imu(readings(w, rows)),))], train=True)
        for w in SIGNS
    ]
    model.heads["imu/signs"].fit(torch.from_numpy(np.concatenate([readings(w, rows) for w in SIGNS])))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    noise = torch.Generator().manual_seed(2)
    for _ in range(steps):
        optimizer.zero_grad()
        terms = model(documents * 4, noise)
        sum(term.total / term.rows for term in terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    return float(terms["imu/signs"].total.detach()) / terms["imu/signs"].rows


# Vectors want 300 steps: at 200 the last bit of a weight decides whether a span ends where it should.
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "steps"), [("codes", 120), ("books", 120), ("embedding", 300), ("regression", 300)])
def test_spans_of_a_length_of_their_own(make_model, kind, steps):
    model = make_model(kind=kind, rows=6)
    teach(model, None, steps)
    for word in SIGNS:
        made = model.generate([word], want=["imu"], temperature=0.0)
        expected = readings(word)
        assert made.finishes == ("stop",)
        assert made.parts[0].readings.shape == expected.shape, word
        assert (np.sign(made.parts[0].readings) == np.sign(expected)).all(), word
        if kind == "embedding":
            np.testing.assert_allclose(made.parts[0].readings, expected, atol=0.2)


@pytest.mark.slow
def test_a_span_is_denoised_into_what_was_asked_for(make_model):
    model = make_model(kind="flow-span", rows=4, fixed=True)
    teach(model, 4, 500)
    right = []
    for word in SIGNS:
        for seed in range(4):
            made = model.generate([word], want=["imu"], seed=seed, temperature={"imu": 0.7}, steps={"imu": 16}).parts[0]
            right.append(float((np.sign(made.readings) == np.sign(readings(word, 4))).mean()))
    assert np.mean(right) > 0.9  # chance is 0.5


def test_quantiles_of_noise_are_learned():
    torch.manual_seed(0)
    head = build(Vectors(dim=1), 16)
    hidden = torch.randn(1, 16, generator=torch.Generator().manual_seed(3)).expand(257, -1)
    optimizer = torch.optim.Adam(head.parameters(), 0.02)
    draw = torch.Generator().manual_seed(9)
    for _ in range(300):
        optimizer.zero_grad()
        loss = head.loss(hidden, torch.randn(256, 1, generator=draw), [256], True)
        (loss.total / loss.rows).backward()
        optimizer.step()
    learned = head.quantiles(hidden[:1])[0, 0].tolist()
    assert learned == pytest.approx([-1.2816, -0.6745, 0.0, 0.6745, 1.2816], abs=0.2)
