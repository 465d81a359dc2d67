"""The default model with fresh weights: numbers, words and a skeleton, put together."""

from __future__ import annotations

from pathlib import Path

from anyany.backbone.builder import BackboneConfig
from anyany.mini import files, words
from anyany.model import Model, TextTokenizer, compose
from anyany.model.build import build
from anyany.model.checkpoint import describe

BACKBONE = BackboneConfig(
    width=192, layers=6, heads=6, kv_heads=2, hidden=512, qk_norm=True, sections=(8, 4, 4), scheme="time",
    per_second=12.5,
)  # fmt: skip
VOCAB = 1024
GENERATION = {
    "text": {"temperature": 0.0},
    "image": {"temperature": 0.7, "guidance": 2.0},
    "audio": {"temperature": 0.5, "guidance": 1.5},
    "video": {"temperature": 0.7, "guidance": 2.0},
    "timeseries": {"temperature": 0.0},
    "motion": {"temperature": 0.7, "guidance": 1.5},
}


def new() -> Model:
    """The model of the first recipe, before any training."""
    skeleton = next(iter(files.movements().values())).skeleton
    joints = {
        "names": list(skeleton.names),
        "parents": skeleton.parents.tolist(),
        "offsets": [[round(float(x), 5) for x in row] for row in skeleton.offsets],
    }
    model = compose(
        backbone=BACKBONE,
        tokenizer=tokenizer(),
        encoders=["image/patch", "audio/logmel", "video/frames", "timeseries/patch", "motion/rot6d"],
        decoders=[
            "image/fsq", "audio/melcodes", "video/fsq",
            {"id": "timeseries/patches", "config": {"patch": 96, "patches": 2}},
            {"id": "motion/latent", "config": joints},
        ],
    )  # fmt: skip
    card = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    return build(describe(model), model.tokenizer, generation=GENERATION, card=card)


def tokenizer() -> TextTokenizer:
    """Byte-level pairs learned from every way to ask, all captions and all names."""
    texts = [phrase.format(a, b) for phrase in words.ALL for a in words.NUMBERS for b in words.DIRECTIONS]
    texts += [text.lower() for text in texts]
    texts += [words.moving(d, way) for d in range(10) for way in words.DIRECTIONS] * 10
    texts += [caption for item in files.truce("train") for caption in item.captions]
    texts += list(files.movements()) * 10
    texts += ["plus", "minus", " plus ", " minus "] * 50
    return TextTokenizer.train(texts, VOCAB)
