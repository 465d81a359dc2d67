"""Both sides of the benchmark of training learn the same: losses, gradients, and what is trained at all."""

from __future__ import annotations

import sys

import pytest
import torch

from anyany.bench import learners, mixture, suite, training, twins
from anyany.bench.padded import IGNORED, collate
from anyany.errors import AnyanyError
from anyany.importers import llama

pytest.importorskip("transformers")
pytest.importorskip("peft")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
    monkeypatch.setitem(twins.SHAPES, "10m", shape)
    monkeypatch.setattr(training, "BATCH", 3)


def gradients(learner):
    loss = learner.loss(learner.batch)
    loss.backward()
    return loss.item()


def test_all_weights_get_the_gradients_that_the_peer_gives():
    ours, theirs = training.pair("10m", lora=False)
    assert gradients(ours) == pytest.approx(gradients(theirs), abs=1e-5)
    parts, language = ours.model.components, theirs.model.language
    names = {ours: [their] for ours, their in llama.TOP.items()}
    for layer in range(2):
        inner = {k: v for k, v in llama.names().block.items() if k not in ("mixer.query_norm", "mixer.key_norm")}
        names |= {f"backbone.blocks.{layer}.{k}": [f"model.layers.{layer}.{n}" for n in v] for k, v in inner.items()}
    for mine, their in names.items():
        expected = torch.cat([language.get_submodule(name).weight.grad for name in their])
        torch.testing.assert_close(parts.get_submodule(mine).weight.grad, expected, rtol=1e-4, atol=1e-6)
    projector = parts["projector/bench/patches"]
    for (name, mine), other in zip(projector.named_parameters(), theirs.model.projector.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    trained = {name for name, p in ours.model.named_parameters() if p.grad is not None}
    assert trained == {n for n, _ in ours.model.named_parameters() if "encoder" not in n}


def test_an_adapter_gets_the_gradients_that_the_peer_gives():
    ours, theirs = training.pair("10m", lora=True)
    adapter = ours.model.adapters["bench"]
    with torch.no_grad():
        for up in adapter.up:
            up.normal_(std=0.3)
    learners.same_adapter(ours, theirs)
    assert gradients(ours) == pytest.approx(gradients(theirs), abs=1e-5)
    found = learners.projections(ours, theirs)
    assert sorted(len(layers) for _, _, layers in found) == [1, 1, 1, 1, 2, 2, 3, 3]
    for down, up, layers in found:
        shared = sum(layer.lora_A["default"].weight.grad for layer in layers)
        torch.testing.assert_close(down.grad, shared, rtol=1e-4, atol=1e-6)
        each = torch.cat([layer.lora_B["default"].weight.grad for layer in layers])
        torch.testing.assert_close(up.grad, each, rtol=1e-4, atol=1e-6)
    assert {n for n, p in ours.model.named_parameters() if p.grad is not None} == {
        f"adapters.by_name.bench.{kind}.{index}" for kind in ("down", "up") for index in range(8)
    }
    assert all("lora_" in n for n, p in theirs.model.named_parameters() if p.grad is not None)


def test_steps_lead_to_the_same_losses():
    ours, theirs = training.pair("10m", lora=False)
    losses = [ours.step() for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    assert losses == pytest.approx([theirs.step() for _ in range(3)], abs=1e-4)


def test_a_padded_batch_holds_what_the_documents_hold():
    ours, theirs = training.pair("10m", lora=False)
    documents, batch = ours.batch, theirs.batch
    lengths = torch.tensor([document.rows for document in documents])
    assert len(set(lengths.tolist())) == 3
    assert batch.ids.shape == (3, lengths.max())
    assert torch.equal(batch.mask.sum(1), lengths)
    assert batch.fill == pytest.approx(float(lengths.sum() / (3 * lengths.max())))
    assert batch.places.sum() == sum(item.rows + 2 for item in batch.pictures)
    answers = [piece.ids for document in documents for piece in document.pieces if piece.learn]
    assert batch.labels[batch.labels != IGNORED].tolist() == [token for ids in answers for token in ids]
    words = (batch.labels != IGNORED) & (batch.labels != batch.ids)
    assert not words.any()


def test_even_conversations_are_not_padded():
    ours, theirs = training.pair("10m", lora=False, even=True)
    assert theirs.batch.fill == 1.0
    assert collate(ours.batch[:1]).fill == 1.0


def test_mixed_conversations_fill_two_thirds_of_a_padded_batch():
    lengths = [
        sum(len(p.split()) if isinstance(p, str) else len(p.patches) + 2 for m in messages for p in m.parts)
        for messages in mixture.conversations(400)
    ]
    rows = torch.tensor(lengths).view(-1, 8)
    assert 0.6 < rows.sum() / (8 * rows.amax(1).sum()) < 0.7


@pytest.mark.parametrize(
    ("name", "goal"), [("train-lora-10m", 1.5), ("train-full-10m", 1.5), ("train-full-10m-even", None)]
)
def test_a_figure_of_the_suite(name, goal):
    figure = suite.SUITE[name](1)
    assert (figure.id, figure.goal) == (name, goal)
    assert figure.ratio > 0
    assert ("fill of the padded batch 1.00" in figure.what) == name.endswith("even")


def test_recompute_makes_the_same_steps():
    figure = suite.SUITE["train-recompute-10m"](1)
    assert figure.id == "train-recompute-10m"
    assert figure.goal is None


def test_sides_that_learn_otherwise_are_not_compared(monkeypatch):
    plain = learners.theirs

    def bent(*args, **options):
        learner = plain(*args, **options)
        learner.model.language.get_output_embeddings().weight.data.mul_(2.0)
        return learner

    monkeypatch.setattr(learners, "theirs", bent)
    with pytest.raises(AnyanyError, match="train-lora-10m: the losses are"):
        training.against("10m", 1, lora=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is read from /proc")
@pytest.mark.parametrize("trains", ["lora", "full"])
def test_memory_is_that_of_processes_of_their_own(monkeypatch, trains):
    """A tiny model with 20,001 tokens: the logits of the peer outweigh all else."""
    monkeypatch.setattr(training, "WORDS", 20_001)
    figure = training.memory(trains, 1)
    assert figure.id == f"train-memory-{trains}"
    assert figure.goal == pytest.approx(1 / 0.7)
    assert figure.ratio > 1
