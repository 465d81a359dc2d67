"""Recipes that ship, and sources that are paths: from a folder of labelled pictures to a run of each."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anyany import Image
from anyany.errors import RecipeError
from anyany.training.loop import Run
from anyany.training.recipe import make_recipe, read_recipe, shipped

SHORT = ["steps=2", "warmup=0", "decay=0", "rows=96", "log_every=1", "model=none"]
TRAINED = {
    "codec": {"codec/image/fsq"}, "bind": {"encoder/image/patch", "projector/image/patch", "text"},
    "align-in": {"projector/image/patch"}, "align-out": {"head/image/fsq"}, "instruct": {"adapter"},
    "joint": {"backbone", "text", "encoder/image/patch", "projector/image/patch", "head/image/fsq"},
}  # fmt: skip
DRAWN = {"messages": [{"role": "user", "content": "Draw {label}."}, {"role": "assistant", "content": ["{media}"]}]}


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    for label, level in (("dark", 0.1), ("light", 0.9)):
        (tmp_path / "shades" / label).mkdir(parents=True)
        for number in range(4):
            pixels = np.clip(draw.normal(level, 0.05, (28, 28)), 0, 1)
            Image.from_array(pixels).save(tmp_path / "shades" / label / f"{number}.png")
    return tmp_path / "shades"


@pytest.fixture
def pictures(tokenizer):
    from anyany.backbone import BackboneConfig
    from anyany.model import compose

    return compose(
        backbone=BackboneConfig(width=32, layers=1, heads=4, sections=(2, 1, 1), scheme="grid"), tokenizer=tokenizer,
        encoders=[{"id": "image/patch", "config": {"width": 32, "depth": 1, "heads": 2}}],
        decoders=[{"id": "image/fsq", "config": {"width": 16}}],
    )  # fmt: skip


def test_these_ship():
    assert set(shipped()) == set(TRAINED)


@pytest.mark.parametrize("name", TRAINED)
def test_each_trains_what_it_says_from_a_folder_of_pictures(pictures, folder, tmp_path, name):
    recipe = read_recipe(name, [*SHORT, f"sources.shades={folder}"])
    if name in ("align-out", "joint"):
        options = {"path": str(folder), "template": DRAWN}
        drawn = {"factory": "anyany.training.folder:Labelled", "options": options}
        given = json.dumps({"shades": recipe.sources["shades"], "drawn": drawn})
        recipe = read_recipe(name, [*SHORT, f"sources={given}"])
    run = Run(recipe, tmp_path / "run", pictures)
    run.run()
    assert {entry.name for entry in run.entries() if entry.changed} == TRAINED[name]


def test_a_recipe_that_ships_wants_model_and_sources(folder):
    with pytest.raises(RecipeError, match="the key 'model' is missing; give it in the file, or as model=mini"):
        read_recipe("align-in", [f"sources.a={folder}"])
    with pytest.raises(RecipeError, match=r"the key 'sources' is missing; .* or as sources.mine=photos.jsonl"):
        read_recipe("align-in", ["model=mini"])
    with pytest.raises(
        RecipeError, match=r"no file align_in; pass a path to a TOML file, or one of align-in, align-out"
    ):
        read_recipe("align_in")


@pytest.mark.parametrize(
    ("path", "factory"),
    [("a/b.jsonl", "anyany.training.jsonl:Lines"), ("part-*.parquet", "anyany.training.parquet:Rows"),
     ("shard-{000..015}.tar", "anyany.training.webdataset:Shards")],
)  # fmt: skip
def test_the_suffix_says_what_reads_a_path(path, factory):
    recipe = make_recipe({"name": "n", "model": "m", "sources": {"a": path}})
    assert recipe.sources == {"a": {"factory": factory, "options": {"path": path}}}


@pytest.mark.parametrize(
    ("sources", "told"),
    [({"a": "nothing/there"}, "expected a folder of labelled files that exists, or a path that ends in .jsonl"),
     ({"a": "a.csv"}, "source 'a.csv'"), ("photos.jsonl", "sources must be a table of sources by name")],
)  # fmt: skip
def test_sources_that_are_none(sources, told):
    with pytest.raises(RecipeError, match=told):
        make_recipe({"name": "n", "model": "m", "sources": sources})
