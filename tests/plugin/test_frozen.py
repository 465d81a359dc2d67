"""Plugins that were built against the first version of the contract still load, keep it, generate and are measured."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FROZEN = Path(__file__).parents[1] / "frozen"
DECLARES = {
    "pulse": ["modality:pulse", "pulse/rows"],
    "steps": ["modality:steps", "steps/levels"],
    "drift": ["modality:drift", "drift/points", "drift/again", "drift/error"],
}
ONLY = {"ANYANY_PLUGINS": ",".join(DECLARES), "ANYANY_STRICT": "1", "OMP_NUM_THREADS": "1"}
PROGRAM = """
import json

import torch

import anyany
from anyany.backbone import BackboneConfig
from anyany.engine import Chunk
from anyany.eval.run import Evaluation
from anyany.model import TextTokenizer
from anyany.plugin.registry import registry

torch.manual_seed(0)
model = anyany.compose(
    backbone=BackboneConfig(width=32, layers=1, heads=2, sections=(2, 3, 3), scheme="time"),
    tokenizer=TextTokenizer.train(["how does it go on?"], 270),
    encoders=["pulse/rows"],
    decoders=["steps/levels", "drift/points"],
)
pulse = model.encoders["pulse/rows"].example(0)
reply = model.generate(["how?", pulse], want=["steps", "text", "drift"], max_new_tokens=2)
chunks = [event for event in model.stream("on", want=["steps"]) if isinstance(event, Chunk)]
(result,) = Evaluation(model, plugins=registry()).run(["drift/again"])
told = [reply.modalities, type(reply.parts[0]).__name__, len(chunks), [result.metric, result.n, result.failed]]
print(json.dumps(told))
"""


@pytest.fixture
def installed(site):
    """The wheels, in the folder of the site."""
    wheels = sorted(map(str, FROZEN.glob("*.whl")))
    assert len(wheels) == len(DECLARES)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(site.folder), *wheels], check=True, capture_output=True)
    return site


def test_the_sources_are_those_of_the_wheels():
    for wheel in FROZEN.glob("*.whl"):
        assert wheel.stat().st_size < 8192
        package = wheel.name.partition("-")[0]
        with zipfile.ZipFile(wheel) as archive:
            for file in sorted((FROZEN / "sources" / package.replace("_", "-") / package).glob("*.py")):
                assert archive.read(f"{package}/{file.name}") == file.read_bytes()


def test_they_are_listed(installed):
    listed = installed.anyany("plugins", "list", "--json", **ONLY)
    found = {r["name"]: r for r in json.loads(listed.stdout) if r["status"] != "blocked"}
    assert {name: record["components"] for name, record in found.items()} == DECLARES
    assert {record["status"] for record in found.values()} == {"ok"}


@pytest.mark.slow
@pytest.mark.parametrize("plugin", DECLARES)
def test_they_pass_the_checks(installed, plugin):
    done = installed.anyany("plugins", "check", plugin, "--json", **ONLY)
    found = json.loads(done.stdout)["checks"]
    assert [check["detail"] for check in found if check["status"] != "ok"] == []
    assert len(found) >= 55


@pytest.mark.slow
def test_they_generate_stream_and_are_measured(installed):
    done = installed.run("-c", PROGRAM, **ONLY)
    assert done.returncode == 0, done.stderr
    modalities, kind, chunks, measured = json.loads(done.stdout)
    assert modalities == ["steps", "text", "drift"]
    assert kind == "Steps"
    assert chunks > 0
    assert measured == ["drift/error", 3, 0]
