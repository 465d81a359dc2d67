"""Each fault fails the check that names it, and what must follow from it; without a fault nothing fails."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the factories lie beside this file

import broken
from fake_site import HEAD
from faults import DECLARED, FAULTS, TESTED, WITHOUT
from good import MOST, Trace

from anyany.errors import ConformanceError
from anyany.plugin import EncoderSpec, hookimpl
from anyany.plugin.registry import Registry
from anyany.testing import checks, demands, remember, run


def failed(fault: str, *, gpu: bool = False, **fields) -> set[str]:
    plugins = Registry.isolated()
    plugins.register(broken.Manifest(fault, **fields), "trace")
    sizes = [Trace(np.ones(count)) for count in (1, 13, MOST)]
    refuses = [Trace(np.ones(MOST + 1))]
    default, here = torch.get_default_dtype(), Path(__file__).parent / "left_behind"
    try:
        found = checks("trace", plugins=plugins, sizes=sizes, refuses=refuses)
        # What a fault does on a GPU is another test's: there are machines without one.
        looked = [check for check in found if gpu or check.name != "gives_the_same_on_a_gpu"]
        return {finding.check for finding in run(looked) if finding.status == "fail"}
    finally:
        torch.set_default_dtype(default)
        here.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", sorted(broken.GOOD))
def test_without_a_fault_nothing_fails(kind):
    assert failed(kind) == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_fails_the_check_that_names_it(fault):
    named, following = FAULTS[fault]
    fields = {"config": {"fault": fault, "beside": (1,)}} if fault == "Tupled" else {}
    assert failed(fault, **fields) == {named} | following


def test_every_fault_is_tested():
    assert set(FAULTS) == {*broken.ENCODERS, *broken.CODECS} - broken.GOOD


def test_every_check_has_a_fault_that_proves_it_or_a_reason_why_there_is_none():
    of_components = {named for named, _ in FAULTS.values()}
    of_declarations = {named for _, named in DECLARED.values()}
    every = {each.name for each in demands()}
    assert of_components | of_declarations | set(TESTED) | set(WITHOUT) == every
    assert not set(WITHOUT) & (of_components | of_declarations | set(TESTED))
    assert set(TESTED.values()) <= set(globals())
    followers = set().union(*(following for _, following in FAULTS.values()))
    assert set(WITHOUT) - {"gives_the_same_on_a_gpu"} <= followers  # they can fail, if not alone


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_stays_on_the_cpu_fails_on_a_gpu():
    assert "gives_the_same_on_a_gpu" in failed("Stays", gpu=True)
    assert "gives_the_same_on_a_gpu" not in failed("Good", gpu=True)


def manifest_fails(**fields) -> set[str]:
    """Of the tier that looks at declarations: where these are wrong nothing can be built."""
    plugins = Registry.isolated()
    plugins.register(broken.Manifest("Good", **fields), "trace")
    found = [check for check in checks(plugins.encoders[0], plugins=plugins) if check.demand.tier == "manifest"]
    return {finding.check for finding in run(found) if finding.status == "fail"}


@pytest.mark.parametrize("factory", ["crashes", "exits"])
def test_what_ends_its_process_does_not_end_ours(site, factory):
    """It is imported in another process, and where that ends nothing is built in this one."""
    heavy = {"crashes": "import os; os.abort()", "exits": "import sys; sys.exit(3)"}[factory]
    site.add("smell", HEAD + ENCODER_OF_SMELL, heavy=heavy + "\n")
    found = run(checks("smell/one", plugins=site.discover()))
    (failure,) = [finding for finding in found if finding.status == "fail"]
    assert failure.check == "factory_resolves"
    assert {"crashes": "SIGABRT", "exits": "SystemExit: 3"}[factory] in failure.detail
    skipped = [finding for finding in found if finding.status == "skipped"]
    assert {finding.detail for finding in skipped} == {"factory_resolves fails"}
    assert len(skipped) == len([finding for finding in found if finding.tier != "manifest"]) > 40


@pytest.mark.parametrize(("fields", "name"), DECLARED.values(), ids=DECLARED)
def test_each_wrong_declaration_fails_the_check_that_names_it(fields, name):
    assert manifest_fails(**fields) == {name}


def test_hooks_that_change_their_mind():
    class Changes(broken.Manifest):
        calls = 0

        @hookimpl
        def anyany_encoders(self):
            Changes.calls += 1
            yield EncoderSpec(
                id="trace/in",
                modality="trace",
                factory="broken:build",
                config={"fault": "Good", "beside": Changes.calls},
            )

    plugins = Registry.isolated()
    plugins.register(Changes("Good"), "trace")
    found = [check for check in checks("trace", plugins=plugins) if check.demand.tier == "manifest"]
    assert {f.check for f in run(found) if f.status == "fail"} == {"hooks_are_repeatable"}


ENCODER_OF_SMELL = (
    "@hookimpl\n"
    "def anyany_encoders():\n"
    "    yield EncoderSpec(id='smell/one', modality='image', factory='{module}_heavy:build')\n"
)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import sys; sys.modules['pandas'] = sys", "manifest_imports_nothing_heavy"),
        ("sum(i * i for i in range(8_000_000))", "manifest_imports_fast"),
        ("import pathlib; pathlib.Path(__file__).with_name('left').write_text('x')", "manifest_touches_nothing"),
    ],
)
def test_each_fault_of_a_manifest_fails_the_check_that_names_it(site, line, name):
    module = site.add("smell", HEAD + ENCODER_OF_SMELL, heavy="def build(): return 1\n")
    plugins = site.discover()
    with (site.folder / f"{module}.py").open("a") as file:  # the process of the check imports it anew
        file.write(line + "\n")
    found = [c for c in checks("smell/one", plugins=plugins) if c.demand.tier == "manifest"]
    assert {f.check for f in run(found) if f.status == "fail"} == {name}


def test_an_entry_point_that_leads_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "anyany_smell").mkdir()
    (tmp_path / "anyany_smell" / "__init__.py").write_text(HEAD + ENCODER_OF_SMELL.replace("{module}_heavy", "broken"))
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "smell"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    import anyany_smell

    plugins = Registry.isolated()
    plugins.register(anyany_smell, "smell")
    (check,) = [c for c in checks("smell/one", plugins=plugins) if c.name == "entry_point_names_the_manifest"]
    with pytest.raises(ConformanceError, match=r'\[project.entry-points.anyany\] smell = "anyany_smell"'):
        check()
    (tmp_path / "pyproject.toml").write_text('[project.entry-points.anyany]\nsmell = "anyany_smell"\n')
    check()


def test_other_numbers_than_those_that_are_remembered(tmp_path, monkeypatch):
    (tmp_path / "anyany_scent").mkdir()
    manifest = ENCODER_OF_SMELL.replace("{module}_heavy", "broken").replace("image'", "trace', config=FAULT")
    words = "@hookimpl\ndef anyany_modalities(): yield ModalitySpec(name='trace', media='good:Trace')\n"
    (tmp_path / "anyany_scent" / "__init__.py").write_text(HEAD + "FAULT = {'fault': 'Good'}\n" + words + manifest)
    monkeypatch.syspath_prepend(str(tmp_path))
    import anyany_scent

    plugins = Registry.isolated()
    plugins.register(anyany_scent, "smell")

    def looked():
        return [c for c in checks("smell/one", plugins=plugins) if c.name == "gives_what_it_remembers"]

    assert looked() == []
    (file,) = remember("smell/one", plugins=plugins)
    assert file == tmp_path / "anyany_scent" / "golden" / "encoder-one.safetensors"
    (check,) = looked()
    check()
    monkeypatch.setitem(broken.ENCODERS, "Good", broken.ENCODERS["KeepsGraph"])  # another class, the same numbers
    check()
    monkeypatch.setitem(broken.ENCODERS, "Good", broken.ENCODERS["Blind"])
    with pytest.raises(ConformanceError, match=r"expected the numbers of .*encoder-one.safetensors for seed 0"):
        check()
