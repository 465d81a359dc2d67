"""The recipes of mini: they are valid, follow each other, and never pair what is said to be unpaired."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import anyany.mini
from anyany.mini import files
from anyany.parts import Media
from anyany.training import data
from anyany.training.recipe import Recipe, read_recipe

FOLDER = Path(anyany.mini.__file__).parent / "recipes"
MAKEFILE = Path(__file__).parents[2] / "Makefile"

needs = pytest.mark.skipif(
    not all(files.available(name) for name in ("mnist", "fsdd", "ett", "kaykit", "truce")),
    reason="the data sets are not installed; point ANYANY_DATA to them",
)


def recipes() -> list[Recipe]:
    """In the order in which ``make mini`` runs them."""
    lines = [line.split() for line in MAKEFILE.read_text().splitlines() if "/mini/recipes/" in line]
    return [read_recipe(FOLDER / Path(words[2]).name) for words in lines]


def test_each_recipe_goes_on_from_the_one_before():
    chain = recipes()
    assert len(chain) == len(list(FOLDER.glob("*.toml")))
    assert chain[0].model == "anyany.mini.build:new"
    for before, after in pairwise(chain):
        assert after.model == f"runs/{before.name}/model", after.name
    assert chain[-1].dtype == "bfloat16"
    assert f"cp -r runs/{chain[-1].name}/model anyany/mini/weights" in MAKEFILE.read_text()


def modalities(parts) -> set[str]:
    return {part.modality for part in parts if isinstance(part, Media)}


@needs
@pytest.mark.slow
def test_pictures_are_never_answered_with_sound_nor_sound_with_pictures():
    draw = np.random.default_rng(0)
    seen = set()
    for recipe in recipes():
        for name, source in data.build_sources(recipe.sources).items():
            for index in draw.integers(0, len(source), 150).tolist():
                sample = source.sample(index, draw)
                if recipe.task == "bind":
                    assert sum(isinstance(part, Media) for part in sample) == 1, name  # everything meets in text
                elif recipe.task == "sequence":
                    asked = modalities(p for m in sample if m.role == "user" for p in m.parts)
                    said = modalities(p for m in sample if m.role == "assistant" for p in m.parts)
                    seen |= {(a, b) for a in asked for b in said}
                    assert not ("image" in asked and "audio" in said), name
                    assert not ("audio" in asked and "image" in said), name
    assert {("image", "image"), ("audio", "audio"), ("timeseries", "timeseries")} <= seen  # the test sees pairs at all
