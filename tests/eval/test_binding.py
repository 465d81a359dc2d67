"""The task ``binding``: what is asked is test data, and cells say what the vectors say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anyany.eval import tasks_binding
from anyany.eval.scores import Ask
from anyany.mini import files
from anyany.mini.sources import FIRST_TRAINED, UNSEEN_SPEAKER
from anyany.mini.words import NUMBERS
from anyany.parts import Audio, Image, Video

needs = pytest.mark.skipif(
    not all(files.available(name) for name in ("mnist", "fsdd")),
    reason="the data sets are not installed; point ANYANY_DATA to them",
)


@needs
def test_galleries_hold_one_test_item_of_each_digit():
    one, two = tasks_binding._galleries(2, np.random.default_rng(0))
    assert {kind: type(items[3]) for kind, items in one.items()} == {
        "text": str, "sentence": str, "image": Image, "audio": Audio, "video": Video
    }  # fmt: skip
    images, labels = files.mnist("t10k")
    known = {Image.from_array(i): int(d) for i, d in zip(images, labels, strict=True)}
    said = {r.audio.key(): r for r in files.spoken()}
    for gallery in (one, two):
        assert [known[picture] for picture in gallery["image"]] == list(range(10))
        records = [said[sound.key()] for sound in gallery["audio"]]
        assert [r.digit for r in records] == list(range(10))
        assert all(r.index < FIRST_TRAINED and r.speaker != UNSEEN_SPEAKER for r in records)
        assert len({sentence.split()[-1] for sentence in gallery["sentence"]}) == 1
        assert [sentence.split()[1] for sentence in gallery["sentence"]] == list(NUMBERS[:10])
    assert one["image"] != two["image"]


@needs
def test_cells_say_what_the_vectors_say(monkeypatch):
    """Text, pictures and recordings lie at their digit; clips lie at that behind it."""

    def vectors(model, parts):
        digits = torch.arange(len(parts)) % 10
        return torch.eye(10)[(digits + 1) % 10 if isinstance(parts[0], Video) else digits]

    monkeypatch.setattr(tasks_binding, "_vectors", vectors)
    score = tasks_binding.binding().score(Ask(None, seed=1), 25)
    cells = score["cells"]
    assert len(cells) == 12
    assert {c["n"] for c in cells.values()} == {30}  # whole galleries
    for name, cell in cells.items():
        assert cell["value"] == float("video" not in name), name
        assert cell["trained"] == ("text" in name), name
    assert score["value"] == pytest.approx(2 / 6, abs=1e-4)
    assert score["n"] == 180


@needs
def test_sentences_stand_for_clips_and_words_for_the_rest(monkeypatch):
    def vectors(model, parts):
        if isinstance(parts[0], str) and " " in parts[0]:
            return torch.eye(20)[torch.arange(len(parts)) % 10 + 10]
        far = 10 * isinstance(parts[0], Video)
        return torch.eye(20)[torch.arange(len(parts)) % 10 + far]

    monkeypatch.setattr(tasks_binding, "_vectors", vectors)
    cells = tasks_binding.binding().score(Ask(None), 10)["cells"]
    found = {name for name, cell in cells.items() if cell["value"] == 1.0}
    assert {"text-video", "video-text", "text-image", "audio-text", "image-audio"} <= found
    assert cells["image-video"]["value"] == 0.0


@needs
@pytest.mark.slow
def test_mini_finds_digits_across_modalities_that_were_never_paired():
    import anyany
    from anyany.eval.run import Evaluation

    model = anyany.load(device="cpu")
    first, again = (next(Evaluation(model, seed=4).run(["binding"], limit=50)) for _ in range(2))
    assert first == again
    assert first.more["cells"]["image-audio"]["value"] > 0.7  # chance is 0.1
    other = next(Evaluation(model, seed=5).run(["binding"], limit=50))
    assert other.more["cells"] != first.more["cells"]
