"""``anyany plugins``: what people read, what programs read, and what the doctor finds."""

from __future__ import annotations

import json
import os

import pytest
from fake_site import HEAD

from anyany.cli.main import main
from anyany.plugin import probe

CODEC = HEAD + (
    "@hookimpl\n"
    "def anyany_modalities(): yield ModalitySpec(name='smell', media='smell:Smell', axes=('time',))\n"
    "@hookimpl\n"
    "def anyany_encoders(): yield EncoderSpec(id='nose/in', modality='smell', factory='{module}_heavy:build',\n"
    "    requires=('nowhere>=2',), can=Capabilities(limits={'seconds': 30}))\n"
    "@hookimpl\n"
    "def anyany_codecs(): yield CodecSpec(id='nose/out', modality='smell', factory='{module}_heavy:build',\n"
    "    latents=Codes(vocab=16, books=2), config={'width': 8, 'tied': True})\n"
)


@pytest.fixture
def shown(site, monkeypatch, capsys):
    """Runs ``anyany plugins`` with the machine's own plugins blocked; returns code and output."""

    def run(*words):
        monkeypatch.setenv("ANYANY_PLUGINS", ",".join(site.distributions))
        monkeypatch.setenv("COLUMNS", "200")
        code = main(["plugins", *words])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in words and out else out, err

    return run


def test_list_for_programs(site, shown):
    site.add("nose", CODEC)
    site.add("bad", HEAD + "raise ImportError('no lib')")
    code, records, err = shown("list", "--json")
    assert (code, err) == (0, "")
    own = {r["name"]: r for r in records if r["status"] != "blocked"}
    assert own == {
        "nose": {
            "name": "nose", "distribution": "dist-nose", "version": "1.0", "module": "fake_dist_nose",
            "status": "ok", "reason": "", "components": ["modality:smell", "nose/in", "nose/out"],
        },
        "bad": {
            "name": "bad", "distribution": "dist-bad", "version": "1.0", "module": "fake_dist_bad",
            "status": "failed", "reason": "ImportError: no lib", "components": [],
        },
    }  # fmt: skip


def test_list_for_people(site, shown):
    site.add("nose", CODEC)
    site.add("bad", HEAD + "raise ImportError('[red]no lib[/red]')")
    code, text, _ = shown("list")
    assert code == 0
    assert "nose/out" in text
    assert "[red]no lib[/red]" in text  # a reason is text, whatever brackets it holds


def test_list_without_any_plugin(site, monkeypatch, capsys):
    monkeypatch.setattr("importlib.metadata.distributions", lambda: iter(()))
    assert main(["plugins", "list"]) == 0
    assert "pip install 'anyany[modalities]'" in capsys.readouterr().out
    assert main(["plugins", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_strict_hides_nothing_from_a_diagnosis(site, shown, monkeypatch):
    site.add("bad", HEAD + "raise ImportError('no lib')")
    monkeypatch.setenv("ANYANY_STRICT", "1")
    code, records, _ = shown("list", "--json")
    assert code == 0
    assert "failed" in {r["status"] for r in records}


def test_show_a_component(site, shown):
    site.add("nose", CODEC)
    code, found, _ = shown("show", "nose/in", "--json")
    assert code == 0
    (spec,) = found["specs"]
    assert (spec["kind"], spec["id"], spec["modality"]) == ("EncoderSpec", "nose/in", "smell")
    assert spec["unmet"] == ["needs nowhere>=2, not installed"]
    assert spec["can"]["limits"] == {"seconds": 30}
    assert [(p["name"], p["distribution"]) for p in found["plugins"]] == [("nose", "dist-nose")]

    code, text, _ = shown("show", "nose/out")
    assert code == 0
    for fact in ("dist-nose 1.0", "fake_dist_nose_heavy:build", "vocab=16, books=2", "width=8, tied=True", "float32"):
        assert fact in text


def test_show_a_plugin_and_a_modality(site, shown):
    site.add("nose", CODEC)
    _, plugin, _ = shown("show", "nose", "--json")
    assert [s["kind"] for s in plugin["specs"]] == ["ModalitySpec", "EncoderSpec", "CodecSpec"]
    _, served, _ = shown("show", "smell", "--json")
    assert [s["id"] for s in served["specs"]] == ["nose/in", "nose/out"]
    assert [p["name"] for p in served["plugins"]] == ["nose"]
    assert shown("show", "modality:smell", "--json")[1] == served  # as the list names it
    _, text, _ = shown("show", "nose")
    assert "modality:smell" in text
    assert "needs nowhere>=2, not installed" in text


def test_show_tells_why_a_plugin_is_not_there(site, shown):
    site.add("bad", HEAD + "def helper(): raise KeyError('gone')\nhelper()")
    code, text, _ = shown("show", "bad")
    assert code == 0
    assert "in helper" in text
    code, _, err = shown("show", "bad/one")
    assert code == 1
    assert err.startswith("error: ")
    assert "failed: KeyError: 'gone'" in err


def test_show_both_claimants_of_a_name(site, shown):
    for n in (1, 2):
        site.add("twin", distribution=f"house-{n}")
    _, found, _ = shown("show", "twin", "--json")
    assert [p["status"] for p in found["plugins"]] == ["conflict", "conflict"]


def test_show_something_unknown(site, shown):
    site.add("nose", CODEC)
    code, out, err = shown("show", "nose/inn", "--json")
    assert (code, out) == (1, "")
    assert "Did you mean 'nose/in'" in err
    assert "pip install anyany-lidar" in shown("show", "lidar/points")[2]


def checks(found):
    return {check["name"]: check for check in found["checks"]}


def test_doctor_on_a_healthy_machine(site, shown):
    site.add("good")
    code, found, _ = shown("doctor", "--json")
    assert (code, found["ok"]) == (0, True)
    seen = checks(found)
    usual = {"python", "anyany", "torch", "kernels", "native library", "extra media"}
    assert usual | {"plugin good", "component good/one"} <= set(seen)
    import torch

    assert seen["torch"]["detail"].startswith(torch.__version__)
    assert seen["component good/one"] == {
        "name": "component good/one", "status": "ok", "detail": "fake_dist_good_heavy:build", "advice": "",
    }  # fmt: skip
    assert "PyTorch's own operations" in seen["kernels"]["detail"]
    assert seen["ANYANY_PLUGINS"]["status"] == "note"
    assert "dist-good" in seen["ANYANY_PLUGINS"]["detail"]


def test_doctor_says_why_a_kernel_that_was_asked_for_cannot_run(site, shown, monkeypatch):
    monkeypatch.setenv("ANYANY_ATTENTION", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    code, found, _ = shown("doctor", "--json")
    assert code == 1
    assert checks(found)["kernels"]["status"] == "fail"
    assert "ANYANY_ATTENTION=triton: the kernel cannot run" in checks(found)["kernels"]["detail"]


def test_doctor_tells_why_there_is_no_native_library(site, shown, monkeypatch):
    monkeypatch.setenv("ANYANY_NATIVE", "0")
    code, found, _ = shown("doctor", "--json")
    check = checks(found)["native library"]
    assert (code, check["status"]) == (0, "note")
    assert "ANYANY_NATIVE=0" in check["detail"]
    assert "PyTorch" in check["advice"]


@pytest.mark.slow
def test_doctor_finds_every_kind_of_fault(site, shown, monkeypatch):
    site.add("nose", CODEC)
    site.add("bad", HEAD + "raise ImportError('no lib')")
    site.add("needy", requires=["nowhere>=3"])
    site.add("old", HEAD.replace("= 1", "= 0"))
    site.add("leaver", heavy="import sys; sys.exit(0)")
    site.add("crasher", heavy="import os; os.kill(os.getpid(), 11)")
    site.add("last")
    monkeypatch.setenv("ANYANY_STRICT", "1")
    monkeypatch.setenv("ANYANY_BLOCK", "nobody")
    code, found, _ = shown("doctor", "--json")
    assert (code, found["ok"]) == (1, False)
    seen = checks(found)

    def has(name, status, detail, advice=""):
        check = seen[name]
        assert check["status"] == status
        assert detail in check["detail"]
        assert advice in check["advice"]

    has("plugin bad", "fail", "failed: ImportError: no lib", "anyany plugins show bad")
    has("plugin needy", "fail", "unmet: needs nowhere>=3, not installed", "pip install --upgrade dist-needy")
    has("plugin old", "fail", "incompatible: written for contract 0", "pip install --upgrade dist-old")
    has("plugin image", "note", "blocked: not named in ANYANY_PLUGINS")
    has("component nose/in", "note", "needs nowhere>=2, not installed", "pip install 'nowhere>=2'")
    has("component leaver/one", "fail", "SystemExit: 0", "ANYANY_BLOCK=leaver")
    has("component crasher/one", "fail", "crashed the process: SIGSEGV", "ANYANY_BLOCK=crasher")
    has("component last/one", "ok", "fake_dist_last_heavy:build")
    has("ANYANY_STRICT", "note", "in effect")
    has("ANYANY_BLOCK", "note", "nobody, which no installed plugin is called", "spelling")


def test_doctor_for_people(site, shown):
    site.add("bad", HEAD + "raise ImportError('no lib')")
    code, text, _ = shown("doctor")
    assert code == 1
    assert "plugin bad" in text
    assert "ImportError: no lib" in text
    assert "ANYANY_BLOCK=bad leaves it out" in text


def test_probe_tells_how_each_import_ended(site):
    site.module("p_good", "def build(): pass\nnumber = 3\nprint('chatter', end='')")
    site.module("p_quits", "import os; os._exit(3)")
    site.module("p_silent", "import os; os._exit(0)")
    site.module("p_hangs", "import time; time.sleep(600)")
    targets = ["p_good:build", "p_good:number", "p_quits:f", "p_good:none", "p_silent:f", "p_absent:f", "p_good:build"]
    outcomes = probe.factories(targets)
    assert [o.ok for o in outcomes] == [True, False, False, False, False, False, True]
    texts = [
        "",
        "expected a callable",
        "exit code 3",
        "AttributeError",
        "exit code 0",
        "No module named 'p_absent'",
        "",
    ]
    for outcome, text in zip(outcomes, texts, strict=True):
        assert text in outcome.text
    hung, fine = probe.factories(["p_hangs:f", "p_good:build"], seconds=4.0)
    assert (hung.ok, fine.ok) == (False, True)
    assert hung.text == "its import did not end within 4 seconds"
    assert probe.factories([]) == []


def test_json_of_a_fresh_process(site):
    site.add("nose", CODEC)
    done = site.anyany("plugins", "list", "--json", ANYANY_PLUGINS="nose")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nose" in {r["name"] for r in json.loads(done.stdout) if r["status"] == "ok"}


def test_the_current_folder_does_not_shadow_what_a_factory_imports(site, tmp_path, monkeypatch):
    site.module("p_good", "import random\ndef build(): random.random()")
    (tmp_path / "random.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert os.path.exists("random.py")
    assert probe.factories(["p_good:build"])[0].ok


MEASURES = HEAD.replace("import Capabilities", "import TaskSpec, MetricSpec, Capabilities") + (
    "@hookimpl\n"
    "def anyany_tasks(): yield TaskSpec(id='nose/sniff', factory='{module}_heavy:build', description='what is it?')\n"
    "@hookimpl\n"
    "def anyany_metrics(): yield MetricSpec(id='nose/error', modality='text', factory='{module}_heavy:gone',\n"
    "    higher_is_better=False)\n"
)


def test_tasks_and_metrics_are_shown(site, shown):
    site.add("nose", MEASURES)
    assert "nose/sniff" in shown("list")[1]
    code, found, _ = shown("show", "nose/error", "--json")
    assert code == 0
    (spec,) = found["specs"]
    assert (spec["kind"], spec["modality"], spec["higher_is_better"]) == ("MetricSpec", "text", False)
    text = shown("show", "nose/sniff")[1]
    assert "TaskSpec" in text
    assert "what is it?" in text


def test_the_doctor_imports_the_factories_of_tasks_and_metrics(site, shown):
    site.add("nose", MEASURES)
    code, report, _ = shown("doctor", "--json")
    found = {c["name"]: c for c in report["checks"]}
    assert code == 1
    assert found["component nose/sniff"]["status"] == "ok"
    assert found["component nose/error"]["status"] == "fail"
    assert "gone" in found["component nose/error"]["detail"]
