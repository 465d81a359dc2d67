"""The kit over a plugin that the core has never heard of, and how checks are asked for and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyany.cli.main import main
from anyany.errors import ConformanceError, UnknownModalityError
from anyany.plugin import CodecSpec, Codes, ModalitySpec, Vectors, hookimpl
from anyany.plugin.registry import Registry
from anyany.testing import checks, demands, parametrize, run


def by_hand() -> Registry:
    import imu_plugin

    found = Registry.isolated()
    found.register(imu_plugin, "imu")
    return found


PLUGINS = by_hand()
ONE_FILE = dict.fromkeys(
    ("manifest_imports_nothing_heavy", "manifest_imports_fast", "manifest_touches_nothing"),
    "a fixture: manifest and components lie in one file",
)


@parametrize(checks("imu", plugins=PLUGINS, xfail=ONE_FILE))
def test_conforms(check):
    check()


LATENTS = {
    "books": Codes(vocab=2, books=3), "regression": Vectors(dim=3), "embedding": Vectors(dim=3, objective="embedding"),
    "flow": Vectors(dim=3, objective="flow"), "flow-span": Vectors(dim=3, objective="flow-span"),
}  # fmt: skip


class Kinds:
    """A manifest by hand: the same codec with other latents, for each head that there is."""

    ANYANY_API = 1

    @hookimpl
    def anyany_modalities(self):
        yield ModalitySpec(name="imu", media="imu_plugin:Imu")

    @hookimpl
    def anyany_codecs(self):
        for kind, latents in LATENTS.items():
            config = {"kind": kind, "fixed": kind == "flow-span"}
            yield CodecSpec(
                id=f"imu/{kind}", modality="imu", factory="imu_plugin:build_codec", latents=latents, config=config
            )


@pytest.mark.parametrize("kind", LATENTS)
def test_codecs_of_every_kind_of_latents_conform(kind):
    plugins = Registry.isolated()
    plugins.register(Kinds(), "imu")
    findings = run(checks(f"imu/{kind}", plugins=plugins))
    assert [finding.detail for finding in findings if finding.status != "ok"] == []
    assert ("step_by_step_equals_teacher_forced" in {f.check for f in findings}) == (kind != "flow-span")


def test_there_are_many_checks_and_each_says_what_it_demands():
    names = [each.name for each in demands()]
    assert len(names) == len(set(names)) >= 45
    for each in demands():
        assert each.text, each.name


def test_findings_tell_what_passed_failed_and_was_expected():
    only = ("example_is_small", "manifest_imports_nothing_heavy", "declares_rows_and_look")
    reasons = {only[1]: "one file", only[2]: "a guess that is wrong"}
    some = [c for c in checks("imu/linear", plugins=PLUGINS, xfail=reasons) if c.name in only]
    found = {finding.check: finding for finding in run(some)}
    assert found[only[0]].status == "ok"
    assert found[only[0]].detail == ""
    assert found[only[1]].status == "expected"
    assert found[only[1]].detail.startswith("one file: imu/linear: manifest_imports_nothing_heavy: expected")
    assert found[only[2]].status == "fail"
    assert "expected to fail (a guess that is wrong), and it passes" in found[only[2]].detail


def test_an_unknown_check_a_missing_reason_and_an_unknown_component():
    with pytest.raises(ConformanceError, match="did you mean 'output_is_finite'"):
        checks("imu/linear", plugins=PLUGINS, xfail={"output_is_finit": "x"})
    with pytest.raises(ConformanceError, match="the reason why 'output_is_finite' fails"):
        checks("imu/linear", plugins=PLUGINS, xfail={"output_is_finite": " "})
    with pytest.raises(UnknownModalityError, match="no component for 'imu/quadratic'"):
        checks("imu/quadratic", plugins=PLUGINS)


def test_the_command_for_people_and_for_programs(monkeypatch, capsys):
    monkeypatch.setattr("anyany.cli.plugins.discover", by_hand)
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["plugins", "check", "imu/linear", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    failed = {c["check"] for c in found["checks"] if c["status"] == "fail"}
    assert failed == set(ONE_FILE)
    assert not found["ok"]
    assert found["costs"] == []  # of what fails
    assert main(["plugins", "check", "imu/linear"]) == 1
    shown = capsys.readouterr().out
    assert f"{len(found['checks'])} checks, 3 failed" in shown
    assert "import it in the factory's module" in shown
    assert main(["plugins", "check", "imu/quadratic"]) == 1
    assert "no component for 'imu/quadratic'" in capsys.readouterr().err


def test_the_command_tells_what_a_row_costs(monkeypatch, capsys):
    monkeypatch.setattr("anyany.cli.plugins.discover", by_hand)
    monkeypatch.setattr("anyany.testing.kit.demands", lambda: tuple(d for d in demands() if d.tier != "manifest"))
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["plugins", "check", "imu/signs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["costs"]
    assert [(cost["component"], cost["call"]) for cost in found] == [("imu/signs", "encode"), ("imu/signs", "decode")]
    assert all(cost["rows"] > 0 and cost["seconds"] > 0 and cost["bytes"] > 0 for cost in found)
    assert main(["plugins", "check", "imu/signs"]) == 0
    assert "what a row costs; no check" in capsys.readouterr().out


def test_what_needs_torch_is_imported_when_it_is_asked_for():
    import anyany.testing

    assert all(getattr(anyany.testing, name) is not None for name in anyany.testing.__all__)
    with pytest.raises(AttributeError, match=r"anyany\.testing has no 'chekcs'; it has Check, "):
        _ = anyany.testing.chekcs


def test_the_page_lists_every_check_with_what_it_demands():
    page = (Path(__file__).parents[2] / "docs" / "checks.md").read_text(encoding="utf-8")
    for each in demands():
        text = " ".join(each.text.split("\n\n")[0].split()).replace("``", "`")
        assert f"| `{each.name}` | {text} |" in page, each.name
    assert page.count("\n| `") == len(demands()) + len(("sizes", "refuses", "xfail", "plugins"))
