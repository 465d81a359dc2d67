"""Rows of the ``datasets`` library, whose media we open ourselves."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from anyany.errors import DataError, MissingPackageError
from anyany.parts import Audio, Image
from anyany.training.huggingface import Dataset

DRAW = np.random.default_rng(0)
ASKED = {"messages": [{"role": "user", "content": ["{picture}", "What?"]}, {"role": "assistant", "content": "{kind}"}]}


@pytest.fixture
def folder(tmp_path):
    datasets = pytest.importorskip("datasets")
    pictures = [Image.from_array(np.full((2, 3), v, np.uint8)) for v in range(5)]
    pictures[4].save(tmp_path / "4.png")
    sound = Audio.from_array(np.full(80, 0.25, np.float32), 8000).to_bytes("wav")
    stored = [{"bytes": p.to_bytes("png"), "path": "no/such.png"} for p in pictures[:3]]
    stored += [{"bytes": b"damaged", "path": None}, {"bytes": None, "path": str(tmp_path / "4.png")}]
    features = {
        "picture": datasets.Image(), "sound": datasets.Audio(), "kind": datasets.ClassLabel(names=["cat", "dog"]),
        "list": datasets.List(datasets.Image()), "more": {"text": datasets.Value("string")},
    }  # fmt: skip
    rows = {
        "picture": stored, "sound": [{"bytes": sound, "path": None}] * 5, "kind": [0, 1, 0, 1, 0],
        "list": [stored[:2]] * 5, "more": [{"text": f"no. {i}"} for i in range(5)],
    }  # fmt: skip
    made = datasets.Dataset.from_dict(rows).cast(datasets.Features(features))  # stored as it is: no encoder needed
    made.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": made, "test": made.select([1])}).save_to_disk(tmp_path / "both")
    return tmp_path


def test_rows_become_samples(folder):
    source = Dataset(str(folder / "one"), ASKED)
    assert len(source) == 5
    for index in (4, 0, 2, 1):
        question, answer = source.sample(index, DRAW)
        assert question.parts[0].pixels[0, 0, 0] == index
        assert answer.parts == (("cat", "dog")[index % 2],)
    with pytest.raises(DataError, match=r"^one, row 3: .*image"):
        source.sample(3, DRAW)
    tested = Dataset(str(folder / "both"), {"pair": ["{sound}", "{more.text}, {kind}"]}, split="test")
    sound, text = tested.sample(0, DRAW)
    assert isinstance(sound, Audio)
    assert (len(tested), text) == (1, "no. 1, dog")
    assert Dataset(str(folder / "one"), {"pair": "{list}"}).sample(0, DRAW)[1].pixels[0, 0, 0] == 1


def test_what_cannot_be_used(folder, monkeypatch):
    with pytest.raises(DataError, match="no column 'label'; there are picture, sound"):
        Dataset(str(folder / "one"), {"pair": ["{picture}", "{label}"]})
    with pytest.raises(DataError, match="no split 'dev'; there are train, test"):
        Dataset(str(folder / "both"), ASKED, split="dev")
    (folder / "one" / "state.json").write_text("{")
    with pytest.raises(DataError, match="cannot load"):
        Dataset(str(folder / "one"), ASKED)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'anyany\[datasets\]'"):
        Dataset(str(folder / "both"), ASKED)
